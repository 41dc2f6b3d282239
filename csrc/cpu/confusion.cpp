// Confusion matrix on the CPU. Label maps are mostly flat: of 64 neighbouring pairs few are different, so
// all that equal the first are counted at once, then all that equal the first of the others. Without
// AVX2 only whole stretches of equal pairs are. The rest goes to several private histograms, because
// counting twice in a row in one cell waits for the first count to be stored.
#include "../core/confusion.h"

#include <algorithm>
#include <cstring>

#include "../api.h"
#include "../core/upsample.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define DEEPLAB_FAST_X86
#include <immintrin.h>
#endif

namespace deeplab_fast {
namespace {

constexpr int kRun = 32;      // bytes compared at once
constexpr int kDistinct = 8;  // different pairs of a block counted together
constexpr int kHistograms = 4;
constexpr int64_t kChunk = 4096;

// Counts pairs of bytes.
class ByteCounter {
 public:
  ByteCounter(int classes, int64_t ignore_label, int64_t* counts)
      : classes_(classes),
        ignore_label_(ignore_label),
        counts_(counts),
        private_(static_cast<size_t>(kHistograms) * classes * classes) {}

  ~ByteCounter() {
    const size_t cells = static_cast<size_t>(classes_) * classes_;
    for (size_t i = 0; i < private_.size(); ++i) counts_[i % cells] += private_[i];
  }

  // Whether all pairs were in range.
  bool add(const uint8_t* labels, const uint8_t* predictions, int64_t pixels) {
#ifdef DEEPLAB_FAST_X86
    if (has_avx2_) return add_blocks(labels, predictions, pixels);
#endif
    return add_runs(labels, predictions, pixels);
  }

 private:
  bool add_runs(const uint8_t* labels, const uint8_t* predictions, int64_t pixels) {
    bool fine = true;
    int64_t i = 0;
    while (i + kRun <= pixels) {
      const int64_t end = end_of_run(labels, predictions, i, pixels);
      if (end > i) {
        fine &= add_equal(labels[i], predictions[i], end - i);
        i = end;
      } else {
        fine &= one_by_one(labels + i, predictions + i, kRun);
        i += kRun;
      }
    }
    return fine & one_by_one(labels + i, predictions + i, pixels - i);
  }

#ifdef DEEPLAB_FAST_X86
  __attribute__((target("avx2,popcnt,bmi"))) bool add_blocks(const uint8_t* labels,
                                                             const uint8_t* predictions, int64_t pixels) {
    bool fine = true;
    int64_t i = 0;
    for (; i + 64 <= pixels; i += 64) {
      const auto* l = reinterpret_cast<const __m256i*>(labels + i);
      const auto* p = reinterpret_cast<const __m256i*>(predictions + i);
      const __m256i l0 = _mm256_loadu_si256(l), l1 = _mm256_loadu_si256(l + 1);
      const __m256i p0 = _mm256_loadu_si256(p), p1 = _mm256_loadu_si256(p + 1);
      uint64_t left = ~uint64_t{0};
      for (int tries = 0; left != 0 && tries < kDistinct; ++tries) {
        const int first = __builtin_ctzll(left);
        const uint8_t label = labels[i + first], prediction = predictions[i + first];
        const __m256i same_l = _mm256_set1_epi8(static_cast<char>(label));
        const __m256i same_p = _mm256_set1_epi8(static_cast<char>(prediction));
        const auto equal = [&](__m256i a, __m256i b) __attribute__((target("avx2"), always_inline)) {
          return static_cast<uint32_t>(_mm256_movemask_epi8(
              _mm256_and_si256(_mm256_cmpeq_epi8(a, same_l), _mm256_cmpeq_epi8(b, same_p))));
        };
        const uint64_t equals = equal(l0, p0) | static_cast<uint64_t>(equal(l1, p1)) << 32;
        fine &= add_equal(label, prediction, __builtin_popcountll(equals));
        left &= ~equals;
      }
      for (; left != 0; left &= left - 1) {
        const int at = __builtin_ctzll(left);
        fine &= one_by_one(labels + i + at, predictions + i + at, 1);
      }
    }
    return fine & one_by_one(labels + i, predictions + i, pixels - i);
  }

  const bool has_avx2_ = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi");
#endif

  bool add_equal(uint8_t label, uint8_t prediction, int64_t pixels) {
    const int64_t cell = cell_of(label, prediction, classes_, ignore_label_);
    if (cell >= 0) counts_[cell] += pixels;
    return cell >= kIgnored;
  }

  // Blocks from i on, all of whose pairs equal the first; i where there is none.
  static int64_t end_of_run(const uint8_t* labels, const uint8_t* predictions, int64_t i, int64_t pixels) {
    const uint64_t label = labels[i] * kOnes, prediction = predictions[i] * kOnes;
    while (i + kRun <= pixels) {
      uint64_t different = 0;
      for (int k = 0; k < kRun; k += 8) {
        uint64_t l, p;
        std::memcpy(&l, labels + i + k, 8);
        std::memcpy(&p, predictions + i + k, 8);
        different |= (l ^ label) | (p ^ prediction);
      }
      if (different != 0) break;
      i += kRun;
    }
    return i;
  }

  bool one_by_one(const uint8_t* labels, const uint8_t* predictions, int64_t pixels) {
    const size_t cells = static_cast<size_t>(classes_) * classes_;
    bool fine = true;
    for (int64_t i = 0; i < pixels; ++i) {
      const int64_t cell = cell_of(labels[i], predictions[i], classes_, ignore_label_);
      if (cell >= 0) {
        ++private_[(i % kHistograms) * cells + cell];
      } else {
        fine &= cell == kIgnored;
      }
    }
    return fine;
  }

  static constexpr uint64_t kOnes = 0x0101010101010101;
  const int classes_;
  const int64_t ignore_label_;
  int64_t* const counts_;
  std::vector<int64_t> private_;
};

int64_t value_at(const Integers& from, int64_t i) {
  switch (from.type) {
    case Integer::uint8:
      return static_cast<const uint8_t*>(from.data)[i];
    case Integer::int8:
      return static_cast<const int8_t*>(from.data)[i];
    case Integer::int16:
      return static_cast<const int16_t*>(from.data)[i];
    case Integer::int32:
      return static_cast<const int32_t*>(from.data)[i];
    case Integer::int64:
      return static_cast<const int64_t*>(from.data)[i];
  }
  return 0;
}

// Values [begin, begin + count) as bytes, or false where one is none.
template <typename T>
bool narrow(const void* data, int64_t begin, int64_t count, uint8_t* out) {
  const T* from = static_cast<const T*>(data) + begin;
  T outside = 0;
  for (int64_t i = 0; i < count; ++i) {
    out[i] = static_cast<uint8_t>(from[i]);
    outside |= static_cast<T>(from[i] & static_cast<T>(~T{255}));
  }
  return outside == 0;
}

template <>
bool narrow<int8_t>(const void* data, int64_t begin, int64_t count, uint8_t* out) {
  const int8_t* from = static_cast<const int8_t*>(data) + begin;
  int8_t sign = 0;
  for (int64_t i = 0; i < count; ++i) {
    out[i] = static_cast<uint8_t>(from[i]);
    sign |= from[i];
  }
  return sign >= 0;
}

bool as_bytes(const Integers& from, int64_t begin, int64_t count, uint8_t* buffer, const uint8_t** bytes) {
  *bytes = buffer;
  switch (from.type) {
    case Integer::uint8:
      *bytes = static_cast<const uint8_t*>(from.data) + begin;
      return true;
    case Integer::int8:
      return narrow<int8_t>(from.data, begin, count, buffer);
    case Integer::int16:
      return narrow<int16_t>(from.data, begin, count, buffer);
    case Integer::int32:
      return narrow<int32_t>(from.data, begin, count, buffer);
    case Integer::int64:
      return narrow<int64_t>(from.data, begin, count, buffer);
  }
  return false;
}

}  // namespace

OutOfRange count_pairs(const Integers& labels, const Integers& predictions, int64_t pixels, int classes,
                       int64_t ignore_label, int64_t* counts) {
  OutOfRange wrong;
  uint8_t label_buffer[kChunk], prediction_buffer[kChunk];
  ByteCounter counter(classes, ignore_label, counts);
  for (int64_t begin = 0; begin < pixels; begin += kChunk) {
    const int64_t count = std::min(kChunk, pixels - begin);
    const uint8_t *l, *p;
    const bool bytes = as_bytes(labels, begin, count, label_buffer, &l) &
                       as_bytes(predictions, begin, count, prediction_buffer, &p);
    if (bytes && counter.add(l, p, count)) continue;
    // Something is out of range, or the ignore label is no byte: look at each value.
    for (int64_t i = begin; i < begin + count; ++i) {
      const int64_t label = value_at(labels, i), prediction = value_at(predictions, i);
      const int64_t cell = cell_of(label, prediction, classes, ignore_label);
      if (cell >= 0 && !bytes) ++counts[cell];
      if (cell < kIgnored && !wrong.found) {
        const bool in_labels = cell == kLabelOutOfRange;
        wrong = {true, in_labels, i, in_labels ? label : prediction};
      }
    }
  }
  return wrong;
}

OutOfRange count_upsampled(const float* logits, int h, int w, int classes, const uint8_t* labels, int height,
                           int width, bool align_corners, int ignore_label, int64_t* counts) {
  OutOfRange wrong;
  const float step_y = upsample_step(h, height, align_corners),
              step_x = upsample_step(w, width, align_corners);
  const size_t row_size = static_cast<size_t>(w) * classes;
  std::vector<float> row(row_size);
  for (int y = 0; y < height; ++y) {
    const Between at = between(step_y, h, y, align_corners);
    const float *top = logits + at.low * row_size, *bottom = logits + at.high * row_size;
    for (size_t i = 0; i < row_size; ++i) row[i] = lerp(top[i], bottom[i], at.t);
    for (int x = 0; x < width; ++x) {
      const Between column = between(step_x, w, x, align_corners);
      const float *left = row.data() + static_cast<size_t>(column.low) * classes,
                  *right = row.data() + static_cast<size_t>(column.high) * classes;
      int best = 0;
      float largest = lerp(left[0], right[0], column.t);
      for (int c = 1; c < classes; ++c) {
        const float value = lerp(left[c], right[c], column.t);
        if (value > largest) {
          largest = value;
          best = c;
        }
      }
      const int64_t pixel = static_cast<int64_t>(y) * width + x;
      const int64_t cell = cell_of(labels[pixel], best, classes, ignore_label);
      if (cell >= 0) {
        ++counts[cell];
      } else if (cell == kLabelOutOfRange && !wrong.found) {
        wrong = {true, true, pixel, labels[pixel]};
      }
    }
  }
  return wrong;
}

}  // namespace deeplab_fast
