// Upsampling and cross-entropy in one sweep, from low-resolution logits to their gradient.
//
// The output pixels between two low-resolution rows of an image are a unit of work. It adds only to the
// gradients of these two rows: to the lower-numbered one in a workspace of its own, to the other one in the
// result, and the two are added once all units are done. So a sum's order does not depend on the threads.
#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>

#include "../api.h"
#include "parallel_for.h"
#include "upsample_ce_pixels.h"

namespace deeplab_fast {
namespace {

struct alignas(64) Line {
  float values[kMostLanes];
};

// Whole vectors in one aligned piece of memory, handed out from its beginning.
class Memory {
 public:
  explicit Memory(size_t floats) : lines_(floats / kMostLanes) {}
  float* take(size_t floats) {
    // Not by `values`: an index beyond one line is another array to the language.
    float* from = reinterpret_cast<float*>(lines_.data()) + used_;
    used_ += floats;
    return from;
  }

 private:
  std::vector<Line> lines_;
  size_t used_ = 0;
};

// What a thread keeps between units.
struct Scratch {
  Scratch(const UpsampleShape& shape)
      : memory(2 * rows_of(shape) + 6 * row_of(shape) + (kRowGroup + 2) * lanes_of(shape)),
        low(memory.take(rows_of(shape))),
        high(memory.take(rows_of(shape))),
        edge(static_cast<size_t>(shape.w) * shape.classes) {
    for (float** row :
         {&strip.corner, &strip.by_row, &strip.by_column, &strip.by_both, &strip.start, &strip.step}) {
      *row = memory.take(row_of(shape));
    }
    strip.exponentials = memory.take(kRowGroup * lanes_of(shape));
    strip.low = memory.take(lanes_of(shape));
    strip.high = memory.take(lanes_of(shape));
  }

  static size_t row_of(const UpsampleShape& shape) { return padded(shape.classes); }
  static size_t rows_of(const UpsampleShape& shape) { return shape.w * row_of(shape); }
  static size_t lanes_of(const UpsampleShape& shape) {
    return static_cast<size_t>(kMostLanes) * shape.classes;
  }

  Memory memory;
  float *low, *high;
  StripScratch strip;
  std::vector<float> edge;  // gradient of a row that is not there
  std::vector<int16_t> targets;
};

struct UnitResult {
  Sums sums;
  int64_t bad_count = 0, bad_value = std::numeric_limits<int64_t>::min();
};

// A row of logits less each pixel's largest, padded with copies of its first class, which change no bound.
// The softmax of a pixel does not change when its corners' logits do by the same for all classes; but large
// logits would lose the digits that the differences between classes are made of.
void shift_row(const float* logits, int pixels, int classes, float* out) {
  const int wide = padded(classes);
  for (int x = 0; x < pixels; ++x, logits += classes, out += wide) {
    const float largest = *std::max_element(logits, logits + classes);
    for (int c = 0; c < classes; ++c) out[c] = logits[c] - largest;
    std::fill(out + classes, out + wide, out[0]);
  }
}

// Labels as classes, or kNotCounted; notes those that are neither a class nor the ignore label. Compared as
// they are where they may be anything, as 32-bit numbers where they are bytes: more of these fit a vector.
template <typename Label, typename Number>
void narrow_labels(const Label* labels, size_t count, int classes, Number ignore_label, int16_t* out,
                   UnitResult& result) {
  const auto in_range = [&](Number value) { return (value >= 0) & (value < classes); };
  int32_t bad = 0;
  for (size_t i = 0; i < count; ++i) {
    const Number value = labels[i];
    const bool ignored = value == ignore_label, fine = in_range(value);
    out[i] = (fine & !ignored) ? static_cast<int16_t>(value) : kNotCounted;
    bad += !fine & !ignored;
  }
  if (bad == 0) return;
  for (size_t i = 0; i < count; ++i) {
    const Number value = labels[i];
    if (value != ignore_label && !in_range(value))
      result.bad_value = std::max<int64_t>(result.bad_value, value);
  }
  result.bad_count += bad;
}

using StripWork = void (*)(const RowCell&, const std::vector<Strip>&, const LossTerms&, const StripScratch&,
                           Sums&);

template <bool kFused, int kLanes, bool kPerPixel>
DEEPLAB_FAST_INLINE void work_on_strips(const RowCell& cell, const std::vector<Strip>& strips,
                                        const LossTerms& terms, const StripScratch& scratch, Sums& sums) {
  for (const Strip& strip : strips) {
    work_on_strip<kFused, kLanes, kPerPixel>(cell, strip, terms, scratch, sums);
  }
}

template <bool kPerPixel>
void generic(const RowCell& cell, const std::vector<Strip>& strips, const LossTerms& terms,
             const StripScratch& scratch, Sums& sums) {
  work_on_strips<kGenericFused, kGenericLanes, kPerPixel>(cell, strips, terms, scratch, sums);
}

#ifdef DEEPLAB_FAST_X86
template <bool kPerPixel>
DEEPLAB_FAST_FOR_AVX2 void avx2(const RowCell& cell, const std::vector<Strip>& strips, const LossTerms& terms,
                                const StripScratch& scratch, Sums& sums) {
  work_on_strips<true, kAvx2Lanes, kPerPixel>(cell, strips, terms, scratch, sums);
}

template <int kLanes, bool kPerPixel>
DEEPLAB_FAST_FOR_AVX512 void avx512(const RowCell& cell, const std::vector<Strip>& strips,
                                    const LossTerms& terms, const StripScratch& scratch, Sums& sums) {
  work_on_strips<true, kLanes, kPerPixel>(cell, strips, terms, scratch, sums);
}
#endif

template <bool kPerPixel>
StripWork work_for(VectorLevel level, int lanes) {
#ifdef DEEPLAB_FAST_X86
  if (level == VectorLevel::avx2) return avx2<kPerPixel>;
  if (level == VectorLevel::avx512) {
    return lanes == kAvx512Lanes ? avx512<kAvx512Lanes, kPerPixel> : avx512<kAvx512Lanes / 2, kPerPixel>;
  }
#endif
  (void)level, (void)lanes;
  return generic<kPerPixel>;
}

// One call: what its units share, and what they find.
class Sweep {
 public:
  // `losses` is null where the gradient is wanted, and the other way round.
  Sweep(const float* logits, const UpsampleShape& shape, const Integers& labels, int64_t ignore_label,
        const float* class_weights, float smoothing, float* gradient, float* losses)
      : logits_(logits),
        shape_(shape),
        labels_(labels),
        ignore_label_(ignore_label),
        gradient_(gradient),
        losses_(losses),
        row_values_(static_cast<size_t>(shape.w) * shape.classes),
        rows_(cells_of(shape.h, shape.height, shape.align_corners)),
        columns_(cells_of(shape.w, shape.width, shape.align_corners)),
        level_(vector_level()),
        lanes_(lanes_for(columns_.outputs, level_)),
        strips_(strips_of(columns_.outputs, lanes_)),
        work_(losses == nullptr ? work_for<false>(level_, lanes_) : work_for<true>(level_, lanes_)),
        shares_(shape.width + kMostLanes, 0.0f),
        weights_(shape.classes, 1.0f),
        spread_(padded(shape.classes), 0.0f) {
    for (int x = 0; x < shape.width; ++x) shares_[x] = columns_.outputs[x].t;
    if (class_weights != nullptr) std::copy_n(class_weights, shape.classes, weights_.begin());
    float spread_sum = 0.0f;
    for (int c = 0; c < shape.classes; ++c) {
      spread_[c] = smoothing / static_cast<float>(shape.classes) * weights_[c];
      spread_sum += spread_[c];
    }
    terms_ = {shape.classes,    weights_.data(), spread_.data(),
              1.0f - smoothing, spread_sum,      smoothing != 0.0f};
    if (gradient_ != nullptr) above_.reset(new float[shape.count * shape.h * row_values_]);
  }

  CrossEntropy run(int threads) {
    const int64_t row_cells = shape_.h + 1, units = row_cells * shape_.count;
    std::vector<UnitResult> results(units);
    std::vector<Scratch> scratch;
    scratch.reserve(workers_for(units, threads));
    for (int worker = 0; worker < workers_for(units, threads); ++worker) scratch.emplace_back(shape_);
    parallel_for(units, threads, [&](int worker, int64_t unit) {
      results[unit] = work_on(unit / row_cells, static_cast<int>(unit % row_cells), scratch[worker]);
    });
    if (gradient_ != nullptr) {
      parallel_for(static_cast<int64_t>(shape_.count) * shape_.h, threads, [&](int, int64_t row) {
        float *to = gradient_ + row * row_values_, *from = above_.get() + row * row_values_;
        for (size_t i = 0; i < row_values_; ++i) to[i] += from[i];
      });
    }
    CrossEntropy all;
    for (const UnitResult& result : results) {
      all.total += result.sums.loss;
      all.weight += result.sums.weight;
      if (result.bad_count > 0) all.bad_value = std::max(all.bad_value, result.bad_value);
      all.bad_count += result.bad_count;
    }
    return all;
  }

 private:
  // Row `row` of an array of the low resolution's rows, or `edge`, cleared; null for no array.
  float* cleared_row(float* rows, int64_t image, int row, std::vector<float>& edge) const {
    if (rows == nullptr) return nullptr;
    const bool there = row >= 0 && row < shape_.h;
    float* found = there ? rows + (image * shape_.h + row) * row_values_ : edge.data();
    std::fill_n(found, row_values_, 0.0f);
    return found;
  }

  UnitResult work_on(int64_t image, int k, Scratch& scratch) const {
    UnitResult result;
    RowCell cell;
    cell.low_gradient = cleared_row(above_.get(), image, k - 1, scratch.edge);
    cell.high_gradient = cleared_row(gradient_, image, k, scratch.edge);
    const int begin = rows_.begin[k];
    cell.count = rows_.begin[k + 1] - begin;
    if (cell.count == 0) return result;
    const float* logits = logits_ + image * shape_.h * row_values_;
    const Between& between = rows_.outputs[begin];
    shift_row(logits + between.low * row_values_, shape_.w, shape_.classes, scratch.low);
    shift_row(logits + between.high * row_values_, shape_.w, shape_.classes, scratch.high);
    cell.low = scratch.low;
    cell.high = scratch.high;
    cell.rows = rows_.outputs.data() + begin;
    cell.shares = shares_.data();
    cell.width = shape_.width;
    const size_t pixels = cell.count * cell.width, first = (image * shape_.height + begin) * cell.width;
    scratch.targets.resize(pixels + kMostLanes);
    int16_t* targets = scratch.targets.data();
    if (labels_.type == Integer::uint8) {
      const bool byte = ignore_label_ >= 0 && ignore_label_ <= UINT8_MAX;
      narrow_labels<uint8_t, int32_t>(static_cast<const uint8_t*>(labels_.data) + first, pixels,
                                      shape_.classes, byte ? static_cast<int32_t>(ignore_label_) : -1,
                                      targets, result);
    } else {
      narrow_labels<int64_t, int64_t>(static_cast<const int64_t*>(labels_.data) + first, pixels,
                                      shape_.classes, ignore_label_, targets, result);
    }
    cell.targets = targets;
    cell.losses = losses_ == nullptr ? nullptr : losses_ + first;
    work_(cell, strips_, terms_, scratch.strip, result.sums);
    return result;
  }

  const float* const logits_;
  const UpsampleShape shape_;
  const Integers labels_;
  const int64_t ignore_label_;
  float* const gradient_;
  float* const losses_;
  const size_t row_values_;
  const Cells rows_, columns_;
  const VectorLevel level_;
  const int lanes_;
  const std::vector<Strip> strips_;
  const StripWork work_;
  std::vector<float> shares_;  // of the columns
  std::vector<float> weights_, spread_;
  LossTerms terms_;
  std::unique_ptr<float[]> above_;  // [N, h, w, C] what each row gets from the outputs below it
};

}  // namespace

CrossEntropy upsample_ce(const float* logits, const UpsampleShape& shape, const Integers& labels,
                         int64_t ignore_label, const float* class_weights, float smoothing, int threads,
                         float* gradient) {
  return Sweep(logits, shape, labels, ignore_label, class_weights, smoothing, gradient, nullptr).run(threads);
}

CrossEntropy upsample_ce_per_pixel(const float* logits, const UpsampleShape& shape, const Integers& labels,
                                   int64_t ignore_label, int threads, float* losses) {
  return Sweep(logits, shape, labels, ignore_label, nullptr, 0.0f, nullptr, losses).run(threads);
}

}  // namespace deeplab_fast
