// Colours: CMYK as JPEG files hold it, and the photometric distortion of a crop.
#pragma once

#include <stdint.h>

#include "host_device.h"

namespace deeplab_fast {

// x / 255, rounded, for x in [0, 65025].
DEEPLAB_FAST_HD int divide_by_255(int x) { return ((x + 128) + ((x + 128) >> 8)) >> 8; }

// One channel of RGB from inverted CMYK, Adobe's convention for JPEG: 255 is no ink.
DEEPLAB_FAST_HD uint8_t rgb_from_inverted_ink(int ink, int black) {
  const int value = black - divide_by_255((255 - ink) * black);
  return static_cast<uint8_t>(value < 0 ? 0 : value);
}

// An affine map of RGB in units of 1/4096: rows give the new R, G, B; the last column is added, on the 0-255
// scale.
struct ColourMatrix {
  int32_t value[3][4];
};

constexpr int kColourBits = 12;

DEEPLAB_FAST_HD uint8_t apply_colour(const int32_t row[4], int r, int g, int b) {
  const int sum = row[0] * r + row[1] * g + row[2] * b + row[3];
  const int value = (sum + (1 << (kColourBits - 1))) >> kColourBits;
  return static_cast<uint8_t>(value < 0 ? 0 : (value > 255 ? 255 : value));
}

}  // namespace deeplab_fast
