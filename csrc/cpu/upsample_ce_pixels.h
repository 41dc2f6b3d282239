// What upsample_ce does to a strip: its pixels' losses, and their slopes with respect to its four corners.
#pragma once

#include "upsample_ce_strip.h"

namespace deeplab_fast {

constexpr int16_t kNotCounted = -1;

// The pixels of one row of a strip. Lanes beyond it do not count.
template <int kLanes>
struct PixelRow {
  FloatLanes<kLanes> valid, weight;  // 1 and the class's weight, or 0
  FloatLanes<kLanes> start, step;    // of the target's score
  IntLanes<kLanes> target;
  int32_t common;  // all that count have this target; kNotCounted where they have not one and the same
  bool any;        // whether any counts
};

template <int kLanes>
DEEPLAB_FAST_INLINE void read_targets(const int16_t* from, int count, PixelRow<kLanes>& pixels) {
  using I = IntLanes<kLanes>;
  typedef int16_t Narrow __attribute__((vector_size(2 * kLanes)));
  Narrow narrow;
  std::memcpy(&narrow, from, sizeof narrow);
  I lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  pixels.target = lane < count ? __builtin_convertvector(narrow, I) : I{} + kNotCounted;
  const I counts = pixels.target >= 0;
  pixels.valid = counts ? FloatLanes<kLanes>{} + 1.0f : FloatLanes<kLanes>{};
  int32_t most = kNotCounted;
  for (int i = 0; i < kLanes; ++i) most = pixels.target[i] > most ? pixels.target[i] : most;
  const I others = counts & (pixels.target != most);
  int32_t other = 0;
  for (int i = 0; i < kLanes; ++i) other |= others[i];
  pixels.any = most >= 0;
  pixels.common = other == 0 ? most : kNotCounted;
}

// What the targets' classes say. Most rows of a strip lie within one object: these need no look at each
// pixel.
template <int kLanes>
DEEPLAB_FAST_INLINE void look_up(const StripScratch& s, const float* weights, PixelRow<kLanes>& pixels) {
  if (pixels.common >= 0) {
    pixels.weight = pixels.valid * weights[pixels.common];
    pixels.start = splat<kLanes>(s.start[pixels.common]);
    pixels.step = splat<kLanes>(s.step[pixels.common]);
    return;
  }
  float weight[kLanes], start[kLanes], step[kLanes];
  for (int i = 0; i < kLanes; ++i) {
    const int32_t c = std::max(pixels.target[i], 0);
    weight[i] = weights[c];
    start[i] = s.start[c];
    step[i] = s.step[c];
  }
  pixels.weight = pixels.valid * load<kLanes>(weight);
  pixels.start = load<kLanes>(start);
  pixels.step = load<kLanes>(step);
}

// Subtracts the targets' own part of the slope from the accumulators.
template <int kLanes>
DEEPLAB_FAST_INLINE void subtract_targets(const StripScratch& s, const PixelRow<kLanes>& pixels,
                                          const FloatLanes<kLanes>& low_part,
                                          const FloatLanes<kLanes>& high_part) {
  using V = FloatLanes<kLanes>;
  if (pixels.common >= 0) {
    float *low = s.low + static_cast<size_t>(pixels.common) * kLanes,
          *high = s.high + static_cast<size_t>(pixels.common) * kLanes;
    store<V>(load<kLanes>(low) - low_part, low);
    store<V>(load<kLanes>(high) - high_part, high);
    return;
  }
  for (int i = 0; i < kLanes; ++i) {
    if (pixels.target[i] < 0) continue;
    const size_t at = static_cast<size_t>(pixels.target[i]) * kLanes + i;
    s.low[at] -= low_part[i];
    s.high[at] -= high_part[i];
  }
}

// Sums over pixels, in double precision: a batch has millions of them.
struct Sums {
  double loss = 0.0, weight = 0.0;
};

template <bool kFused, int kLanes, bool kPerPixel>
DEEPLAB_FAST_INLINE void work_on_strip(const RowCell& cell, const Strip& strip, const LossTerms& terms,
                                       const StripScratch& s, Sums& sums) {
  using V = FloatLanes<kLanes>;
  using Double = typename LaneTypes<kLanes>::Double;
  using A = Arithmetic<kFused, V>;
  const int classes = terms.classes, wide = padded(classes);
  const size_t row_values = static_cast<size_t>(classes) * kLanes;
  const V share = load<kLanes>(cell.shares + strip.begin);
  const bool near = prepare_strip<kLanes>(cell, strip, wide, s);
  // sum of spread[c] * score[c] is a bilinear form too: smoothing takes no loop over classes for each pixel.
  float smooth[4] = {};
  if (terms.smooth) {
    smooth[0] = dot<kLanes>(s.corner, terms.spread, wide);
    smooth[1] = dot<kLanes>(s.by_row, terms.spread, wide);
    smooth[2] = dot<kLanes>(s.by_column, terms.spread, wide);
    smooth[3] = dot<kLanes>(s.by_both, terms.spread, wide);
  }
  if constexpr (!kPerPixel) {
    std::fill_n(s.low, row_values, 0.0f);
    std::fill_n(s.high, row_values, 0.0f);
  }
  V low_scale[kRowGroup], high_scale[kRowGroup], low_valid = {}, high_valid = {};
  Double losses = {}, weights = {};
  int filled = 0;
  for (int row = 0; row < cell.count; ++row) {
    const size_t first = row * cell.width + strip.begin;
    PixelRow<kLanes> pixels;
    read_targets<kLanes>(cell.targets + first, strip.count, pixels);
    if (!pixels.any) {
      if constexpr (kPerPixel) std::fill_n(cell.losses + first, strip.count, 0.0f);
      continue;
    }
    const float high_share = cell.rows[row].t, low_share = 1.0f - high_share;
    prepare_row<kFused, kLanes>(s, wide, high_share);
    look_up<kLanes>(s, terms.weights, pixels);
    float* to = s.exponentials + filled * row_values;
    V shift = {}, sum;
    if (near) {
      sum = exponentials<kFused, kLanes, false, !kPerPixel>(s, classes, share, shift, to);
    } else {
      shift = largest_scores<kFused, kLanes>(s, classes, share);
      sum = exponentials<kFused, kLanes, true, !kPerPixel>(s, classes, share, shift, to);
    }
    const V log_sum = log_of<kFused, V>(sum) + shift;
    const V kept = terms.keep * pixels.weight, spread = terms.spread_sum * pixels.valid;
    const V smooth_score = A::mul_add(share, splat<kLanes>(smooth[2] + high_share * smooth[3]),
                                      splat<kLanes>(smooth[0] + high_share * smooth[1]));
    const V loss = kept * (log_sum - A::mul_add(share, pixels.step, pixels.start)) +
                   (spread * log_sum - pixels.valid * smooth_score);
    if constexpr (kPerPixel) {
      float each[kLanes];
      store(loss, each);
      std::copy_n(each, strip.count, cell.losses + first);
    } else {
      losses += __builtin_convertvector(loss, Double);
      weights += __builtin_convertvector(pixels.weight, Double);
      const V scale = (kept + spread) / sum;
      low_scale[filled] = scale * low_share;
      high_scale[filled] = scale * high_share;
      low_valid += pixels.valid * low_share;
      high_valid += pixels.valid * high_share;
      subtract_targets<kLanes>(s, pixels, kept * low_share, kept * high_share);
      if (++filled == kRowGroup) {
        add_slopes<kFused, kLanes, kRowGroup>(s, s.exponentials, classes, low_scale, high_scale);
        filled = 0;
      }
    }
  }
  if constexpr (!kPerPixel) {
    for (int r = 0; r < filled; ++r) {
      add_slopes<kFused, kLanes, 1>(s, s.exponentials + r * row_values, classes, low_scale + r,
                                    high_scale + r);
    }
    for (int c = 0; terms.smooth && c < classes; ++c) {
      float *low = s.low + c * kLanes, *high = s.high + c * kLanes;
      store<V>(load<kLanes>(low) - terms.spread[c] * low_valid, low);
      store<V>(load<kLanes>(high) - terms.spread[c] * high_valid, high);
    }
    add_to_gradient<kLanes>(cell, strip, s, classes, share);
    for (int i = 0; i < kLanes; ++i) {
      sums.loss += losses[i];
      sums.weight += weights[i];
    }
  }
}

}  // namespace deeplab_fast
