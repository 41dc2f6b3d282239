// The inner loops of resampling: plain C++ for any processor, AVX2 and AVX-512 by intrinsics.
//
// The vector loops rest on one instruction, pmaddwd: two 16-bit products added to 32 bits. Neighbouring
// taps become neighbouring words: of two rows by unpacking, of two pixels by a shuffle whose indexes are
// made once for all rows of a sample. All loops give the same bits (core/resample.h).
#include "resample_rows.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__)
#define DEEPLAB_FAST_X86
// GCC 12 warns of the undefined vectors inside its own header.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#endif

namespace deeplab_fast {
namespace {

// ---------------------------------------------------------------- any processor

void sum_columns_from(int begin, const uint8_t* const rows[4], const int16_t weight[4], int values,
                      int16_t* out) {
  const uint8_t *r0 = rows[0], *r1 = rows[1], *r2 = rows[2], *r3 = rows[3];
  for (int i = begin; i < values; ++i) out[i] = combine_column(weight, r0[i], r1[i], r2[i], r3[i]);
}

void sum_columns_generic(const uint8_t* const rows[4], const int16_t weight[4], bool, int values,
                         int16_t* out) {
  sum_columns_from(0, rows, weight, values, out);
}

void plan_row_generic(RowPlan&) {}

void sum_pixels_from(int begin, const RowPlan& plan, const int16_t* sums, uint8_t* out) {
  for (int x = begin; x < plan.values / 3; ++x) {
    const Taps& taps = plan.taps[x];
    const int16_t* v = sums + 3 * taps.first;
    for (int c = 0; c < 3; ++c) out[3 * x + c] = combine_row(taps.weight, v[c], v[3 + c], v[6 + c], v[9 + c]);
  }
}

void sum_row_generic(const RowPlan& plan, const int16_t* sums, uint8_t* out) {
  sum_pixels_from(0, plan, sums, out);
}

void pick_from(int begin, const uint8_t* row, const int32_t* index, int count, uint8_t* out) {
  for (int i = begin; i < count; ++i) out[i] = row[index[i]];
}

void pick_generic(const uint8_t* row, int, const int32_t* index, int count, uint8_t* out) {
  pick_from(0, row, index, count, out);
}

constexpr RowLoops kGeneric = {"generic", sum_columns_generic, plan_row_generic, sum_row_generic,
                               pick_generic};

#ifdef DEEPLAB_FAST_X86

// Two weights as the pair that pmaddwd multiplies with.
inline int pair(int16_t low, int16_t high) {
  return static_cast<int>(static_cast<uint16_t>(low) | static_cast<uint32_t>(static_cast<uint16_t>(high))
                                                           << 16);
}

// ---------------------------------------------------------------- AVX2

#define DEEPLAB_FAST_AVX2 __attribute__((target("avx2")))

DEEPLAB_FAST_AVX2 inline __m256i load_avx2(const uint8_t* p) {
  return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

DEEPLAB_FAST_AVX2 void sum_columns_avx2(const uint8_t* const rows[4], const int16_t weight[4], bool bicubic,
                                        int values, int16_t* out) {
  const __m256i outer_low = _mm256_set1_epi32(pair(weight[0], weight[3]));
  const __m256i inner = _mm256_set1_epi32(pair(weight[1], weight[2]));
  const __m256i offset = _mm256_set1_epi32(kFirstOffset);
  int i = 0;
  for (; i + 16 <= values; i += 16) {
    const __m256i b = load_avx2(rows[1] + i), c = load_avx2(rows[2] + i);
    __m256i low = _mm256_add_epi32(offset, _mm256_madd_epi16(_mm256_unpacklo_epi16(b, c), inner));
    __m256i high = _mm256_add_epi32(offset, _mm256_madd_epi16(_mm256_unpackhi_epi16(b, c), inner));
    if (bicubic) {
      const __m256i a = load_avx2(rows[0] + i), d = load_avx2(rows[3] + i);
      low = _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_unpacklo_epi16(a, d), outer_low));
      high = _mm256_add_epi32(high, _mm256_madd_epi16(_mm256_unpackhi_epi16(a, d), outer_low));
    }
    low = _mm256_srai_epi32(low, kFirstShift);
    high = _mm256_srai_epi32(high, kFirstShift);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), _mm256_packs_epi32(low, high));
  }
  sum_columns_from(i, rows, weight, values, out);
}

// One pixel at a time: taps 0 and 1 in the lower offset, 2 and 3 in the upper.
DEEPLAB_FAST_AVX2 void sum_row_avx2(const RowPlan& plan, const int16_t* sums, uint8_t* out) {
  const __m256i pairs = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11, -1, -1, -1, -1));  // r r g g b b
  const __m128i offset = _mm_set1_epi32(kSecondOffset);
  const int pixels = plan.values / 3;
  int x = 0;
  for (; x + 1 < pixels; ++x) {  // four bytes are written: the last pixel is done apart
    const Taps& taps = plan.taps[x];
    const int16_t* v = sums + 3 * taps.first;
    const __m256i four =
        _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(v))),
                                _mm_loadu_si128(reinterpret_cast<const __m128i*>(v + 6)), 1);
    const __m256i weight =
        _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_set1_epi32(pair(taps.weight[0], taps.weight[1]))),
                                _mm_set1_epi32(pair(taps.weight[2], taps.weight[3])), 1);
    const __m256i products = _mm256_madd_epi16(_mm256_shuffle_epi8(four, pairs), weight);
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(products), _mm256_extracti128_si256(products, 1));
    sum = _mm_srai_epi32(_mm_add_epi32(sum, offset), kSecondShift);
    sum = _mm_packs_epi32(sum, sum);
    const int rgb = _mm_cvtsi128_si32(_mm_packus_epi16(sum, sum));
    std::memcpy(out + 3 * x, &rgb, 4);
  }
  sum_pixels_from(x, plan, sums, out);
}

constexpr RowLoops kAvx2 = {"AVX2", sum_columns_avx2, plan_row_generic, sum_row_avx2, pick_generic};

// ---------------------------------------------------------------- AVX-512

#define DEEPLAB_FAST_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl")))

constexpr int kBlock = 16;  // outputs at a time
constexpr int kReach = 64;  // words that one shuffle of two registers reaches
constexpr int kWords = 32;  // words of a register, and of a table

DEEPLAB_FAST_AVX512 inline __m512i load_avx512(const uint8_t* p, __mmask32 mask) {
  return _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(mask, p));
}

DEEPLAB_FAST_AVX512 void sum_columns_avx512(const uint8_t* const rows[4], const int16_t weight[4],
                                            bool bicubic, int values, int16_t* out) {
  const __m512i outer = _mm512_set1_epi32(pair(weight[0], weight[3]));
  const __m512i inner = _mm512_set1_epi32(pair(weight[1], weight[2]));
  const __m512i offset = _mm512_set1_epi32(kFirstOffset);
  for (int i = 0; i < values; i += kWords) {
    const int left = values - i;
    const __mmask32 mask = left >= kWords ? ~__mmask32{0} : (__mmask32{1} << left) - 1;
    const __m512i b = load_avx512(rows[1] + i, mask), c = load_avx512(rows[2] + i, mask);
    __m512i low = _mm512_add_epi32(offset, _mm512_madd_epi16(_mm512_unpacklo_epi16(b, c), inner));
    __m512i high = _mm512_add_epi32(offset, _mm512_madd_epi16(_mm512_unpackhi_epi16(b, c), inner));
    if (bicubic) {
      const __m512i a = load_avx512(rows[0] + i, mask), d = load_avx512(rows[3] + i, mask);
      low = _mm512_add_epi32(low, _mm512_madd_epi16(_mm512_unpacklo_epi16(a, d), outer));
      high = _mm512_add_epi32(high, _mm512_madd_epi16(_mm512_unpackhi_epi16(a, d), outer));
    }
    low = _mm512_srai_epi32(low, kFirstShift);
    high = _mm512_srai_epi32(high, kFirstShift);
    _mm512_mask_storeu_epi16(out + i, mask, _mm512_packs_epi32(low, high));
  }
}

// Tables of a block: which words its outputs' first pair of taps reads (relative to its base), and the
// weights of both pairs. Bilinear has one pair, the inner.
void plan_row_avx512(RowPlan& plan) {
  const int blocks = (plan.values + kBlock - 1) / kBlock;
  plan.base.assign(blocks, 0);
  plan.tables.assign(static_cast<size_t>(blocks) * 3 * kWords, 0);
  const int inner = plan.bicubic ? 0 : 1;
  const int reach = plan.bicubic ? 9 : 3;
  plan.blocked = true;
  for (int block = 0; block < blocks; ++block) {
    const int begin = block * kBlock;
    const int end = begin + kBlock < plan.values ? begin + kBlock : plan.values;
    int low = INT32_MAX, high = 0;
    for (int i = begin; i < end; ++i) {
      const int word = 3 * (plan.taps[i / 3].first + inner) + i % 3;
      low = word < low ? word : low;
      high = word > high ? word : high;
    }
    if (high + reach - low >= kReach) {
      plan.blocked = false;
      return;
    }
    plan.base[block] = low;
    int16_t* index = plan.tables.data() + static_cast<size_t>(block) * 3 * kWords;
    int16_t *first = index + kWords, *second = first + kWords;
    for (int i = begin; i < end; ++i) {
      const Taps& taps = plan.taps[i / 3];
      const int lane = 2 * (i - begin), word = 3 * (taps.first + inner) + i % 3 - low;
      index[lane] = static_cast<int16_t>(word);
      index[lane + 1] = static_cast<int16_t>(word + 3);
      first[lane] = taps.weight[inner];
      first[lane + 1] = taps.weight[inner + 1];
      if (plan.bicubic) {
        second[lane] = taps.weight[2];
        second[lane + 1] = taps.weight[3];
      }
    }
  }
}

DEEPLAB_FAST_AVX512 void sum_row_avx512(const RowPlan& plan, const int16_t* sums, uint8_t* out) {
  if (!plan.blocked) {
    sum_row_avx2(plan, sums, out);
    return;
  }
  const __m512i offset = _mm512_set1_epi32(kSecondOffset);
  const __m512i next_pair = _mm512_set1_epi16(6);
  const int16_t* tables = plan.tables.data();
  for (int i = 0, block = 0; i < plan.values; i += kBlock, ++block, tables += 3 * kWords) {
    const int16_t* from = sums + plan.base[block];
    const __m512i near = _mm512_loadu_si512(from), far = _mm512_loadu_si512(from + kWords);
    const __m512i index = _mm512_loadu_si512(tables);
    __m512i sum =
        _mm512_madd_epi16(_mm512_permutex2var_epi16(near, index, far), _mm512_loadu_si512(tables + kWords));
    if (plan.bicubic) {
      const __m512i second = _mm512_permutex2var_epi16(near, _mm512_add_epi16(index, next_pair), far);
      sum = _mm512_add_epi32(sum, _mm512_madd_epi16(second, _mm512_loadu_si512(tables + 2 * kWords)));
    }
    sum = _mm512_srai_epi32(_mm512_add_epi32(sum, offset), kSecondShift);
    const __m128i bytes = _mm512_cvtusepi32_epi8(_mm512_max_epi32(sum, _mm512_setzero_si512()));
    const int left = plan.values - i;
    if (left >= kBlock) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), bytes);
    } else {
      _mm_mask_storeu_epi8(out + i, static_cast<__mmask16>((1 << left) - 1), bytes);
    }
  }
}

constexpr RowLoops kAvx512 = {"AVX-512", sum_columns_avx512, plan_row_avx512, sum_row_avx512, pick_generic};

// 64 bytes at a time, where they lie within the 128 that one shuffle reaches. Newer processors only.
__attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi"))) void pick_vbmi(const uint8_t* row,
                                                                               int row_bytes,
                                                                               const int32_t* index,
                                                                               int count, uint8_t* out) {
  constexpr int kPicked = 64, kSeen = 128;
  int i = 0;
  for (; i + kPicked <= count; i += kPicked) {
    const int low = std::min(index[i], index[i + kPicked - 1]),
              high = std::max(index[i], index[i + kPicked - 1]);
    const int from = std::min(low, row_bytes - kSeen);
    if (from < 0 || high - from >= kSeen) break;
    __m512i places = _mm512_setzero_si512();
    const __m512i base = _mm512_set1_epi32(from);
    for (int part = 0; part < 4; ++part) {
      const __m512i wide = _mm512_sub_epi32(_mm512_loadu_si512(index + i + 16 * part), base);
      const __m128i narrow = _mm512_cvtepi32_epi8(wide);
      switch (part) {  // the lane must be a constant
        case 0:
          places = _mm512_inserti32x4(places, narrow, 0);
          break;
        case 1:
          places = _mm512_inserti32x4(places, narrow, 1);
          break;
        case 2:
          places = _mm512_inserti32x4(places, narrow, 2);
          break;
        default:
          places = _mm512_inserti32x4(places, narrow, 3);
      }
    }
    const __m512i near = _mm512_loadu_si512(row + from), far = _mm512_loadu_si512(row + from + kPicked);
    _mm512_storeu_si512(out + i, _mm512_permutex2var_epi8(near, places, far));
  }
  pick_from(i, row, index, count, out);
}

constexpr RowLoops kAvx512Vbmi = {"AVX-512 VBMI", sum_columns_avx512, plan_row_avx512, sum_row_avx512,
                                  pick_vbmi};

#endif  // DEEPLAB_FAST_X86

const RowLoops* best_loops(const std::string& limit) {
#ifdef DEEPLAB_FAST_X86
  const bool avx512 = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  if (avx512 && limit != "AVX2" && limit != "generic") {
    return limit != "AVX-512" && __builtin_cpu_supports("avx512vbmi") ? &kAvx512Vbmi : &kAvx512;
  }
  if (__builtin_cpu_supports("avx2") && limit != "generic") return &kAvx2;
#endif
  (void)limit;
  return &kGeneric;
}

std::atomic<const RowLoops*> chosen{nullptr};

}  // namespace

const RowLoops& row_loops() {
  const RowLoops* loops = chosen.load(std::memory_order_relaxed);
  if (loops == nullptr) {
    loops = best_loops("");
    chosen.store(loops, std::memory_order_relaxed);
  }
  return *loops;
}

std::string vector_extension() { return row_loops().name; }

void limit_vector_extension(const std::string& limit) { chosen.store(best_loops(limit)); }

}  // namespace deeplab_fast
