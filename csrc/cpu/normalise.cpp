// uint8 crops to normalised floats: a table of 256 values for each channel.
#include "../core/normalise.h"

#include <cstring>

#include "../api.h"

namespace deeplab_fast {

void normalise(const uint8_t* images, const int32_t* extents, int count, int height, int width,
               const float mean[3], const float std[3], float* out) {
  float table[3][256];
  for (int c = 0; c < 3; ++c) {
    for (int v = 0; v < 256; ++v) table[c][v] = normalise_value(static_cast<float>(v), mean[c], std[c]);
  }
  const size_t row = 3 * static_cast<size_t>(width);
  for (int n = 0; n < count; ++n, extents += 4) {
    const size_t left = 3 * static_cast<size_t>(extents[2]), right = 3 * static_cast<size_t>(extents[3]);
    for (int y = 0; y < height; ++y, images += row, out += row) {
      if (y < extents[0] || y >= extents[1]) {
        std::memset(out, 0, row * sizeof *out);
        continue;
      }
      std::memset(out, 0, left * sizeof *out);
      for (size_t i = left; i < right; i += 3) {
        out[i] = table[0][images[i]];
        out[i + 1] = table[1][images[i + 1]];
        out[i + 2] = table[2][images[i + 2]];
      }
      std::memset(out + right, 0, (row - right) * sizeof *out);
    }
  }
}

}  // namespace deeplab_fast
