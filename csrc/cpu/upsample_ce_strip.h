// The inner loops of upsample_ce: the pixels between four low-resolution ones, lanes being output columns.
#pragma once

#include <algorithm>

#include "lanes.h"
#include "upsample_strips.h"

namespace deeplab_fast {

constexpr int kRowGroup = 4;  // rows whose slopes are added to the accumulators in one go
constexpr int kMostLanes = kAvx512Lanes;

// Classes are padded to whole vectors, so that loops over them have no rest.
inline int padded(int classes) { return (classes + kMostLanes - 1) / kMostLanes * kMostLanes; }

// What all pixels share.
struct LossTerms {
  int classes;
  const float* weights;  // [classes]
  const float* spread;   // [padded] smoothing / classes * weights, 0 in the padding
  float keep;            // 1 - smoothing
  float spread_sum;
  bool smooth;
};

// The output rows between two low-resolution rows, as a unit of work prepares them.
struct RowCell {
  const float *low, *high;  // [w, padded] logits less each pixel's largest, of the two rows
  const Between* rows;
  int count;               // of rows
  const float* shares;     // [W + kMostLanes] of the columns
  const int16_t* targets;  // [count, width] classes or kNotCounted, and kMostLanes more
  size_t width;
  float *low_gradient, *high_gradient;  // [w, classes] of the two rows
  float* losses;                        // [count, width]
};

// Memory of a strip, each for its number of floats.
struct StripScratch {
  float *corner, *by_row, *by_column, *by_both;  // [padded] the bilinear form's coefficients
  float *start, *step;                           // [padded] a row's scores: start + share * step
  float* exponentials;                           // [kRowGroup, classes, lanes]
  float *low, *high;                             // [classes, lanes] slopes times the share of each row
};

// A strip's bilinear form for each class; returns whether every pixel's largest score is certain to be near
// enough to 0 for exponentials of the scores as they are. A pixel's score is at least the least of its
// corners', so the largest over classes of the latter bounds its largest score from below.
template <int kLanes>
DEEPLAB_FAST_INLINE bool prepare_strip(const RowCell& cell, const Strip& strip, int wide,
                                       const StripScratch& s) {
  using V = FloatLanes<kLanes>;
  constexpr float kNear = -64.0f;  // what exp_of takes for 0 is beyond fp32's digits then
  const float *low = cell.low + static_cast<size_t>(strip.low) * wide,
              *low_right = cell.low + static_cast<size_t>(strip.high) * wide,
              *high = cell.high + static_cast<size_t>(strip.low) * wide,
              *high_right = cell.high + static_cast<size_t>(strip.high) * wide;
  V bound = V{} + 2 * kNear;
  for (int c = 0; c < wide; c += kLanes) {
    const V p = load<kLanes>(low + c), q = load<kLanes>(low_right + c), r = load<kLanes>(high + c),
            t = load<kLanes>(high_right + c);
    store(p, s.corner + c);
    store<V>(r - p, s.by_row + c);
    store<V>(q - p, s.by_column + c);
    store<V>((t - r) - (q - p), s.by_both + c);
    bound = larger<V>(smaller<V>(smaller<V>(p, q), smaller<V>(r, t)), bound);
  }
  bool near = false;
  for (int i = 0; i < kLanes; ++i) near |= bound[i] > kNear;
  return near;
}

template <bool kFused, int kLanes>
DEEPLAB_FAST_INLINE void prepare_row(const StripScratch& s, int wide, float share) {
  using V = FloatLanes<kLanes>;
  using A = Arithmetic<kFused, V>;
  const V t = splat<kLanes>(share);
  for (int c = 0; c < wide; c += kLanes) {
    store<V>(A::mul_add(t, load<kLanes>(s.by_row + c), load<kLanes>(s.corner + c)), s.start + c);
    store<V>(A::mul_add(t, load<kLanes>(s.by_both + c), load<kLanes>(s.by_column + c)), s.step + c);
  }
}

// Largest score of each lane.
template <bool kFused, int kLanes>
DEEPLAB_FAST_INLINE FloatLanes<kLanes> largest_scores(const StripScratch& s, int classes,
                                                      const FloatLanes<kLanes>& share) {
  using V = FloatLanes<kLanes>;
  using A = Arithmetic<kFused, V>;
  V most = A::mul_add(share, splat<kLanes>(s.step[0]), splat<kLanes>(s.start[0]));
  for (int c = 1; c < classes; ++c) {
    most = larger<V>(A::mul_add(share, splat<kLanes>(s.step[c]), splat<kLanes>(s.start[c])), most);
  }
  return most;
}

// e^(score - shift) of each class and lane, and their sums over classes. The hottest loop of all.
template <bool kFused, int kLanes, bool kShifted, bool kStore>
DEEPLAB_FAST_INLINE FloatLanes<kLanes> exponentials(const StripScratch& s, int classes,
                                                    const FloatLanes<kLanes>& share,
                                                    const FloatLanes<kLanes>& shift, float* to) {
  using V = FloatLanes<kLanes>;
  using A = Arithmetic<kFused, V>;
  const float *start = s.start, *step = s.step;  // else loaded again after each store
  V sum = {};
  for (int c = 0; c < classes; ++c) {
    V score = A::mul_add(share, splat<kLanes>(step[c]), splat<kLanes>(start[c]));
    if constexpr (kShifted) score -= shift;
    const V value = exp_of<kFused, V>(score);
    if constexpr (kStore) store(value, to + c * kLanes);
    sum += value;
  }
  return sum;
}

// Adds the exponentials of `kRows` rows, scaled, to the accumulators: with several rows these are loaded and
// stored once for all.
template <bool kFused, int kLanes, int kRows>
DEEPLAB_FAST_INLINE void add_slopes(const StripScratch& s, const float* from, int classes,
                                    const FloatLanes<kLanes>* low_scale,
                                    const FloatLanes<kLanes>* high_scale) {
  using V = FloatLanes<kLanes>;
  using A = Arithmetic<kFused, V>;
  const size_t row = static_cast<size_t>(classes) * kLanes;
  float *low_sums = s.low, *high_sums = s.high;
  V low_scales[kRows], high_scales[kRows];
  for (int r = 0; r < kRows; ++r) {
    low_scales[r] = low_scale[r];
    high_scales[r] = high_scale[r];
  }
  for (size_t at = 0; at < row; at += kLanes) {
    V low = load<kLanes>(low_sums + at), high = load<kLanes>(high_sums + at);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const V value = load<kLanes>(from + r * row + at);
      low = A::mul_add(value, low_scales[r], low);
      high = A::mul_add(value, high_scales[r], high);
    }
    store(low, low_sums + at);
    store(high, high_sums + at);
  }
}

// Adds the accumulators to the gradients of the strip's four corners.
template <int kLanes>
DEEPLAB_FAST_INLINE void add_to_gradient(const RowCell& cell, const Strip& strip, const StripScratch& s,
                                         int classes, const FloatLanes<kLanes>& share) {
  using V = FloatLanes<kLanes>;
  const size_t left = static_cast<size_t>(strip.low) * classes,
               right = static_cast<size_t>(strip.high) * classes;
  const V rest = 1.0f - share;
  for (int c = 0; c < classes; ++c) {
    const V low = load<kLanes>(s.low + c * kLanes), high = load<kLanes>(s.high + c * kLanes);
    cell.low_gradient[left + c] += sum_of<kLanes>(low * rest);
    cell.low_gradient[right + c] += sum_of<kLanes>(low * share);
    cell.high_gradient[left + c] += sum_of<kLanes>(high * rest);
    cell.high_gradient[right + c] += sum_of<kLanes>(high * share);
  }
}

template <int kLanes>
DEEPLAB_FAST_INLINE float dot(const float* a, const float* b, int wide) {
  FloatLanes<kLanes> sum = {};
  for (int c = 0; c < wide; c += kLanes) sum += load<kLanes>(a + c) * load<kLanes>(b + c);
  return sum_of<kLanes>(sum);
}

}  // namespace deeplab_fast
