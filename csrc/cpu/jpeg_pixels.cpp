#include "jpeg_pixels.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#include <algorithm>

#define DEEPLAB_FAST_AVX2 __attribute__((target("avx2")))

namespace deeplab_fast {

bool has_jpeg_pixels() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2"); }

namespace {

typedef int32_t Lanes __attribute__((vector_size(32)));

// Constants of Loeffler, Ligtenberg and Moschytz's eleven-multiplication DCT ("Practical fast 1-D DCT
// algorithms", ICASSP 1989), x 2^13.
constexpr int kBits = 13;
constexpr int k0_298 = 2446, k0_390 = 3196, k0_541 = 4433, k0_765 = 6270, k0_899 = 7373, k1_175 = 9633,
              k1_501 = 12299, k1_847 = 15137, k1_961 = 16069, k2_053 = 16819, k2_562 = 20995, k3_072 = 25172;

// One dimension of the transform, on eight columns at once, rounded to `shift` bits less.
template <int shift>
DEEPLAB_FAST_AVX2 inline void transform(Lanes v[8]) {
  const Lanes even = (v[2] + v[6]) * k0_541;
  const Lanes low = even - v[6] * k1_847, high = even + v[2] * k0_765;
  const Lanes half = Lanes{} + (1 << (shift - 1));
  const Lanes sum = ((v[0] + v[4]) << kBits) + half, difference = ((v[0] - v[4]) << kBits) + half;
  const Lanes a = sum + high, d = sum - high, b = difference + low, c = difference - low;
  const Lanes z1 = (v[7] + v[1]) * -k0_899, z2 = (v[5] + v[3]) * -k2_562;
  const Lanes z5 = (v[7] + v[3] + v[5] + v[1]) * k1_175;
  const Lanes z3 = (v[7] + v[3]) * -k1_961 + z5, z4 = (v[5] + v[1]) * -k0_390 + z5;
  const Lanes t0 = v[7] * k0_298 + z1 + z3, t1 = v[5] * k2_053 + z2 + z4;
  const Lanes t2 = v[3] * k3_072 + z2 + z3, t3 = v[1] * k1_501 + z1 + z4;
  v[0] = (a + t3) >> shift;
  v[7] = (a - t3) >> shift;
  v[1] = (b + t2) >> shift;
  v[6] = (b - t2) >> shift;
  v[2] = (c + t1) >> shift;
  v[5] = (c - t1) >> shift;
  v[3] = (d + t0) >> shift;
  v[4] = (d - t0) >> shift;
}

DEEPLAB_FAST_AVX2 inline void transpose(Lanes lanes[8]) {
  __m256i* v = reinterpret_cast<__m256i*>(lanes);
  __m256i a[8], b[8];
  for (int i = 0; i < 8; i += 2) {
    a[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]);
    a[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    b[i] = _mm256_unpacklo_epi64(a[i], a[i + 2]);
    b[i + 1] = _mm256_unpackhi_epi64(a[i], a[i + 2]);
    b[i + 2] = _mm256_unpacklo_epi64(a[i + 1], a[i + 3]);
    b[i + 3] = _mm256_unpackhi_epi64(a[i + 1], a[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x20);
    v[i + 4] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x31);
  }
}

uint8_t clamp(int value) { return static_cast<uint8_t>(std::min(std::max(value, 0), 255)); }

}  // namespace

namespace {

// Magnitudes below which libjpeg's 16-bit arithmetic is exact: coefficients are multiplied by 4 there, values
// between the two dimensions are added in pairs.
constexpr int kCoefficientBits = 13, kMiddleBits = 14;

// Whether all magnitudes are below 2^bits.
template <int bits>
DEEPLAB_FAST_AVX2 inline bool all_below(const Lanes v[8]) {
  Lanes magnitudes = {};
  for (int i = 0; i < 8; ++i) magnitudes |= v[i] ^ (v[i] >> 31);
  const __m256i beyond = _mm256_set1_epi32(~((1 << bits) - 1));
  return _mm256_testz_si256(reinterpret_cast<__m256i>(magnitudes), beyond) != 0;
}

}  // namespace

DEEPLAB_FAST_AVX2 bool inverse_dct(const int16_t* block, const int16_t* quantisation, bool dc_only,
                                   uint8_t* out, ptrdiff_t stride) {
  constexpr int kCentre = 128;
  if (dc_only) {
    const int scaled = block[0] * quantisation[0];
    if ((scaled ^ (scaled >> 31)) >> kCoefficientBits != 0) return false;
    const int value = ((scaled + 4) >> 3) + kCentre;
    for (int y = 0; y < 8; ++y, out += stride) __builtin_memset(out, clamp(value), 8);
    return true;
  }
  constexpr int kKept = 2;  // fractional bits between the two dimensions
  Lanes v[8];
  for (int i = 0; i < 8; ++i) {
    const __m128i coefficients = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block + 8 * i));
    const __m128i steps = _mm_loadu_si128(reinterpret_cast<const __m128i*>(quantisation + 8 * i));
    v[i] = reinterpret_cast<Lanes>(_mm256_cvtepi16_epi32(coefficients)) *
           reinterpret_cast<Lanes>(_mm256_cvtepi16_epi32(steps));
  }
  if (!all_below<kCoefficientBits>(v)) return false;
  transform<kBits - kKept>(v);
  if (!all_below<kMiddleBits>(v)) return false;
  transpose(v);
  transform<kBits + kKept + 3>(v);
  transpose(v);
  const __m256i centre = _mm256_set1_epi16(kCentre);
  for (int i = 0; i < 8; i += 2) {
    const __m256i words = _mm256_add_epi16(
        _mm256_packs_epi32(reinterpret_cast<__m256i>(v[i]), reinterpret_cast<__m256i>(v[i + 1])), centre);
    const __m256i bytes = _mm256_packus_epi16(words, words);  // each half: 4 of row i, 4 of row i + 1, twice
    const __m128i low = _mm256_castsi256_si128(bytes), high = _mm256_extracti128_si256(bytes, 1);
    const __m128i rows = _mm_unpacklo_epi32(low, high);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out + i * stride), rows);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out + (i + 1) * stride), _mm_srli_si128(rows, 8));
  }
  return true;
}

// Triangle filters: 3/4 and 1/4 of the nearest two samples, in each dimension that was halved. An end repeats
// itself. The loops are for the compiler to vectorise; they count in ptrdiff_t, because with -fwrapv, which
// Python's build adds, twice an int need not be further on.
template <int shift, int even_offset, int odd_offset>
DEEPLAB_FAST_AVX2 inline void widen_sums(const uint16_t* __restrict sums, ptrdiff_t samples,
                                         uint8_t* __restrict out) {
  for (ptrdiff_t i = 0; i < samples; ++i) {
    const uint16_t own = static_cast<uint16_t>(3 * sums[i + 1]);
    const uint16_t even = static_cast<uint16_t>(own + sums[i] + even_offset) >> shift;
    const uint16_t odd = static_cast<uint16_t>(own + sums[i + 2] + odd_offset) >> shift;
    const uint16_t both = static_cast<uint16_t>(even | odd << 8);
    __builtin_memcpy(out + 2 * i, &both, 2);
  }
}

DEEPLAB_FAST_AVX2 void widen_row(const uint8_t* near, const uint8_t* far, bool halved_height, int samples,
                                 uint16_t* __restrict sums, uint8_t* out) {
  if (halved_height) {
    for (ptrdiff_t i = 0; i < samples; ++i) sums[i + 1] = static_cast<uint16_t>(3 * near[i] + far[i]);
  } else {
    for (ptrdiff_t i = 0; i < samples; ++i) sums[i + 1] = near[i];
  }
  sums[0] = sums[1];
  sums[samples + 1] = sums[samples];
  if (halved_height) {
    widen_sums<4, 8, 7>(sums, samples, out);
  } else {
    widen_sums<2, 1, 2>(sums, samples, out);
  }
}

namespace {

// x 2^16, rounded.
constexpr int kCrToR = 91881, kCbToB = 116130, kCbToG = -22554, kCrToG = -46802, kHalf = 1 << 15;

DEEPLAB_FAST_AVX2 inline __m256i widen(const uint8_t* p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}

DEEPLAB_FAST_AVX2 inline __m256i scale(__m256i v, int factor) {
  return _mm256_mullo_epi32(v, _mm256_set1_epi32(factor));
}

// Eight pixels' channels as 32-bit values, before clamping.
struct Rgb {
  __m256i r, g, b;
};

DEEPLAB_FAST_AVX2 inline Rgb convert_eight(const uint8_t* luma, const uint8_t* blue, const uint8_t* red) {
  const __m256i centre = _mm256_set1_epi32(128), half = _mm256_set1_epi32(kHalf);
  const __m256i y = widen(luma), cb = _mm256_sub_epi32(widen(blue), centre),
                cr = _mm256_sub_epi32(widen(red), centre);
  Rgb out;
  out.r = _mm256_add_epi32(y, _mm256_srai_epi32(_mm256_add_epi32(scale(cr, kCrToR), half), 16));
  out.b = _mm256_add_epi32(y, _mm256_srai_epi32(_mm256_add_epi32(scale(cb, kCbToB), half), 16));
  const __m256i green = _mm256_add_epi32(scale(cb, kCbToG), scale(cr, kCrToG));
  out.g = _mm256_add_epi32(y, _mm256_srai_epi32(_mm256_add_epi32(green, half), 16));
  return out;
}

// Sixteen bytes from two vectors of eight values.
DEEPLAB_FAST_AVX2 inline __m128i pack(__m256i low, __m256i high) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
  return _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

// Bytes of three planes, each where its indexes say.
DEEPLAB_FAST_AVX2 inline __m128i merge(__m128i r, __m128i at_r, __m128i g, __m128i at_g, __m128i b,
                                       __m128i at_b) {
  return _mm_or_si128(_mm_or_si128(_mm_shuffle_epi8(r, at_r), _mm_shuffle_epi8(g, at_g)),
                      _mm_shuffle_epi8(b, at_b));
}

}  // namespace

DEEPLAB_FAST_AVX2 void ycc_to_rgb(const uint8_t* y, const uint8_t* cb, const uint8_t* cr, int pixels,
                                  uint8_t* rgb) {
  // Where the bytes of each plane go in three registers of interleaved pixels; -1: another plane's.
  const __m128i r0 = _mm_setr_epi8(0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1, -1, 5);
  const __m128i g0 = _mm_setr_epi8(-1, 0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1, -1);
  const __m128i b0 = _mm_setr_epi8(-1, -1, 0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1);
  const __m128i r1 = _mm_setr_epi8(-1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1, 10, -1);
  const __m128i g1 = _mm_setr_epi8(5, -1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1, 10);
  const __m128i b1 = _mm_setr_epi8(-1, 5, -1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1);
  const __m128i r2 = _mm_setr_epi8(-1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15, -1, -1);
  const __m128i g2 = _mm_setr_epi8(-1, -1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15, -1);
  const __m128i b2 = _mm_setr_epi8(10, -1, -1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15);
  int x = 0;
  for (; x + 16 <= pixels; x += 16, rgb += 48) {
    const Rgb low = convert_eight(y + x, cb + x, cr + x),
              high = convert_eight(y + x + 8, cb + x + 8, cr + x + 8);
    const __m128i r = pack(low.r, high.r), g = pack(low.g, high.g), b = pack(low.b, high.b);
    __m128i* out = reinterpret_cast<__m128i*>(rgb);
    _mm_storeu_si128(out, merge(r, r0, g, g0, b, b0));
    _mm_storeu_si128(out + 1, merge(r, r1, g, g1, b, b1));
    _mm_storeu_si128(out + 2, merge(r, r2, g, g2, b, b2));
  }
  for (; x < pixels; ++x, rgb += 3) {
    const int blue = cb[x] - 128, red = cr[x] - 128;
    rgb[0] = clamp(y[x] + ((kCrToR * red + kHalf) >> 16));
    rgb[1] = clamp(y[x] + ((kCbToG * blue + kCrToG * red + kHalf) >> 16));
    rgb[2] = clamp(y[x] + ((kCbToB * blue + kHalf) >> 16));
  }
}

}  // namespace deeplab_fast

#else

namespace deeplab_fast {

bool has_jpeg_pixels() { return false; }
bool inverse_dct(const int16_t*, const int16_t*, bool, uint8_t*, ptrdiff_t) { return false; }
void widen_row(const uint8_t*, const uint8_t*, bool, int, uint16_t*, uint8_t*) {}
void ycc_to_rgb(const uint8_t*, const uint8_t*, const uint8_t*, int, uint8_t*) {}

}  // namespace deeplab_fast

#endif
