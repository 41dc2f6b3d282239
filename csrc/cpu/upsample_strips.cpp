#include "upsample_strips.h"

#include <algorithm>
#include <cmath>

namespace deeplab_fast {

std::vector<Strip> strips_of(const std::vector<Between>& outputs, int lanes) {
  std::vector<Strip> strips;
  for (int i = 0; i < static_cast<int>(outputs.size()); ++i) {
    const int low = outputs[i].low, high = outputs[i].high;
    if (strips.empty() || strips.back().count == lanes || strips.back().low != low ||
        strips.back().high != high) {
      strips.push_back({i, 0, low, high});
    }
    ++strips.back().count;
  }
  return strips;
}

int lanes_for(const std::vector<Between>& outputs, VectorLevel level) {
  if (level == VectorLevel::generic) return kGenericLanes;
  if (level == VectorLevel::avx2) return kAvx2Lanes;
  for (const Strip& strip : strips_of(outputs, kAvx512Lanes)) {
    if (strip.count > kAvx512Lanes / 2) return kAvx512Lanes;
  }
  return kAvx512Lanes / 2;
}

Cells cells_of(int source, int target, bool align_corners) {
  Cells cells;
  cells.begin.assign(source + 2, 0);
  for (int i = 0; i < target; ++i) {
    double position = 0.0;
    if (!align_corners) {
      position = (i + 0.5) * source / target - 0.5;
    } else if (target > 1) {
      position = static_cast<double>(i) * (source - 1) / (target - 1);
    }
    const int cell = std::clamp(static_cast<int>(std::floor(position)) + 1, 0, source);
    Between output{std::max(cell - 1, 0), std::min(cell, source - 1), 0.0f};
    if (cell == 0) {
      output.t = 1.0f;
    } else if (cell < source) {
      output.t = static_cast<float>(position - (cell - 1));
    }
    cells.outputs.push_back(output);
    ++cells.begin[cell + 1];
  }
  for (int k = 0; k <= source; ++k) cells.begin[k + 1] += cells.begin[k];
  return cells;
}

}  // namespace deeplab_fast
