// Where a resized pixel comes from and with which weights: OpenCV's positions, in exact integers.
//
// A resized value is a weighted sum of 2 x 2 or 4 x 4 source pixels. Weights are multiples of 1/16384
// that sum to 1; the columns are summed first and kept, less 128, with 7 fractional bits; then the rows. All
// of it is integer arithmetic, so any loop order, any vector width and any device give the same bits. Only
// the weights come from floating point, one rounding an operation: compile with -ffp-contract=off and
// --fmad=false.
#pragma once

#include <math.h>
#include <stdint.h>

#include "host_device.h"

namespace deeplab_fast {

constexpr int kWeightBits = 14;
constexpr int kWeightOne = 1 << kWeightBits;
// Between the two sums values are kept less 128: so 7 fractional bits fit 16, bicubic overshoot included.
constexpr int kMiddle = 128;
constexpr int kMiddleBits = 7;
constexpr int kFirstShift = kWeightBits - kMiddleBits;
constexpr int kSecondShift = kWeightBits + kMiddleBits;
// Added before each shift: half a unit, and what moves the values by 128 and back.
constexpr int kFirstOffset = (1 << (kFirstShift - 1)) - (kMiddle << kWeightBits);
constexpr int kSecondOffset = (1 << (kSecondShift - 1)) + (kMiddle << kSecondShift);

// Source index of the first of four taps, which may lie outside the image, and their weights x 16384.
// Bilinear leaves the outer two at 0.
struct Taps {
  int32_t first;
  int16_t weight[4];
};

// Source pixels per resized pixel; two roundings, as OpenCV computes it.
DEEPLAB_FAST_HD double source_step(int source, int resized) {
  return 1.0 / (static_cast<double>(resized) / static_cast<double>(source));
}

// INTER_NEAREST.
DEEPLAB_FAST_HD int nearest_index(double step, int source, int i) {
  const int index = static_cast<int>(floor(i * step));
  return index < source - 1 ? index : source - 1;
}

// Moves what rounding lost or gained to the heavier inner tap, so that a flat image stays flat.
DEEPLAB_FAST_HD void balance(Taps* taps, float t) {
  const int sum = taps->weight[0] + taps->weight[1] + taps->weight[2] + taps->weight[3];
  taps->weight[t < 0.5f ? 1 : 2] += static_cast<int16_t>(kWeightOne - sum);
}

// INTER_CUBIC, a = -0.75, and INTER_LINEAR; the centre of resized pixel i lies at (i + 0.5) * step - 0.5.
DEEPLAB_FAST_HD Taps taps_of(double step, int i, bool bicubic) {
  const float position = static_cast<float>((i + 0.5) * step - 0.5);
  const float base = floorf(position);
  const float t = position - base;
  float weight[4] = {0.0f, 1.0f - t, t, 0.0f};
  if (bicubic) {
    const float a = -0.75f;
    weight[0] = ((a * (t + 1.0f) - 5.0f * a) * (t + 1.0f) + 8.0f * a) * (t + 1.0f) - 4.0f * a;
    weight[1] = ((a + 2.0f) * t - (a + 3.0f)) * t * t + 1.0f;
    weight[2] = ((a + 2.0f) * (1.0f - t) - (a + 3.0f)) * (1.0f - t) * (1.0f - t) + 1.0f;
    weight[3] = 1.0f - weight[0] - weight[1] - weight[2];
  }
  Taps taps;
  taps.first = static_cast<int32_t>(base) - 1;
  for (int k = 0; k < 4; ++k) taps.weight[k] = static_cast<int16_t>(rintf(weight[k] * kWeightOne));
  balance(&taps, t);
  return taps;
}

// Pixels beyond the border repeat the border's.
DEEPLAB_FAST_HD int clamp_index(int index, int size) {
  return index < 0 ? 0 : (index < size ? index : size - 1);
}

// Sum over a column's four pixels, as kept between the sums: within +-22528 for bicubic weights.
DEEPLAB_FAST_HD int16_t combine_column(const int16_t weight[4], int p0, int p1, int p2, int p3) {
  const int sum = weight[0] * p0 + weight[1] * p1 + weight[2] * p2 + weight[3] * p3;
  return static_cast<int16_t>((sum + kFirstOffset) >> kFirstShift);
}

// Sum over a row's four column sums, to a pixel.
DEEPLAB_FAST_HD uint8_t combine_row(const int16_t weight[4], int v0, int v1, int v2, int v3) {
  const int sum = weight[0] * v0 + weight[1] * v1 + weight[2] * v2 + weight[3] * v3;
  const int value = (sum + kSecondOffset) >> kSecondShift;
  return static_cast<uint8_t>(value < 0 ? 0 : (value > 255 ? 255 : value));
}

}  // namespace deeplab_fast
