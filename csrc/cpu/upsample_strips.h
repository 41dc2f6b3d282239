// An axis of an upsampling, cut where the source pixels that outputs lie between change.
#pragma once

#include <vector>

#include "upsample.h"
#include "vector_level.h"

namespace deeplab_fast {

// Neighbouring outputs of an axis that lie between the same two source pixels; what vector lanes hold.
struct Strip {
  int begin, count, low, high;
};

// How many lanes to use: with AVX-512 half of them where no more outputs than that lie between two
// source pixels: the others would stay empty.
int lanes_for(const std::vector<Between>& outputs, VectorLevel level);

// Strips of at most `lanes` outputs, in order.
std::vector<Strip> strips_of(const std::vector<Between>& outputs, int lanes);

// The outputs of an axis in cells: cell k, 0 <= k <= source, holds those between source pixels k - 1 and k.
// The outer cells hold what lies outside all pixels' centres: their outputs take all of the one pixel there
// is, so the other corner's weight is 0.
struct Cells {
  std::vector<Between> outputs;
  std::vector<int> begin;  // source + 2: cell k is outputs [begin[k], begin[k + 1])
};

Cells cells_of(int source, int target, bool align_corners);

}  // namespace deeplab_fast
