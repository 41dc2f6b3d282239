#include "byte_counter.h"

#include <cstring>

#include "../core/confusion.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define DEEPLAB_FAST_X86
#include <immintrin.h>
#endif

namespace deeplab_fast {
namespace {

constexpr int kRun = 32;  // bytes compared at once
constexpr int kHistograms = 4;
constexpr uint64_t kOnes = 0x0101010101010101;

// Blocks from i on, all of whose pairs equal the first; i where there is none.
int64_t end_of_run(const uint8_t* labels, const uint8_t* predictions, int64_t i, int64_t pixels) {
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

bool can_add_blocks() {
#ifdef DEEPLAB_FAST_X86
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi");
#else
  return false;
#endif
}

}  // namespace

ByteCounter::ByteCounter(int classes, int64_t ignore_label)
    : classes_(classes),
      ignore_label_(ignore_label),
      histograms_(static_cast<size_t>(kHistograms) * classes * classes),
      has_blocks_(can_add_blocks()) {}

void ByteCounter::add_to(int64_t* counts) const {
  const size_t cells = static_cast<size_t>(classes_) * classes_;
  for (int h = 0; h < kHistograms; ++h) {
    for (size_t i = 0; i < cells; ++i) counts[i] += histograms_[h * cells + i];
  }
}

bool ByteCounter::add(const uint8_t* labels, const uint8_t* predictions, int64_t pixels) {
  return has_blocks_ ? add_blocks(labels, predictions, pixels) : add_runs(labels, predictions, pixels);
}

bool ByteCounter::add_runs(const uint8_t* labels, const uint8_t* predictions, int64_t pixels) {
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
constexpr int kDistinct = 8;  // different pairs of a block counted together

__attribute__((target("avx2,popcnt,bmi"))) bool ByteCounter::add_blocks(const uint8_t* labels,
                                                                        const uint8_t* predictions,
                                                                        int64_t pixels) {
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
#else
bool ByteCounter::add_blocks(const uint8_t* labels, const uint8_t* predictions, int64_t pixels) {
  return add_runs(labels, predictions, pixels);
}
#endif

bool ByteCounter::add_equal(uint8_t label, uint8_t prediction, int64_t pixels) {
  const int64_t cell = cell_of(label, prediction, classes_, ignore_label_);
  if (cell >= 0) histograms_[cell] += pixels;
  return cell >= kIgnored;
}

bool ByteCounter::one_by_one(const uint8_t* labels, const uint8_t* predictions, int64_t pixels) {
  const size_t cells = static_cast<size_t>(classes_) * classes_;
  bool fine = true;
  for (int64_t i = 0; i < pixels; ++i) {
    const int64_t cell = cell_of(labels[i], predictions[i], classes_, ignore_label_);
    if (cell >= 0) {
      ++histograms_[(i % kHistograms) * cells + cell];
    } else {
      fine &= cell == kIgnored;
    }
  }
  return fine;
}

}  // namespace deeplab_fast
