// e^x and ln(x) in fp32 as plain arithmetic, for a float or for vectors of them: the C library's are a call
// for each value.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "host_device.h"

namespace deeplab_fast {

// What differs between types of numbers. kFused: a * b + c is rounded once. It must only be asked for where
// the processor does that in one instruction: elsewhere it is a call of the C library for each value.
template <bool kFused, typename F>
struct Arithmetic;

template <bool kFused>
struct Arithmetic<kFused, float> {
  using Int = int32_t;

  static DEEPLAB_FAST_INLINE float mul_add(float a, float b, float c) {
    if constexpr (kFused) {
      return fmaf(a, b, c);
    } else {
      return a * b + c;
    }
  }
  static DEEPLAB_FAST_INLINE Int bits_of(float value) {
    Int bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
  }
  static DEEPLAB_FAST_INLINE float from_bits(Int bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
  }
  // The bits of p * 2^n, from those of p and of 1.5 * 2^23 + n.
  static DEEPLAB_FAST_INLINE Int scale(Int p, Int n) {
    return static_cast<Int>(static_cast<uint32_t>(p) + (static_cast<uint32_t>(n) << 23));
  }
  static DEEPLAB_FAST_INLINE float to_float(Int value) { return static_cast<float>(value); }
  // All bits set where a < b, else none.
  static DEEPLAB_FAST_INLINE Int less(float a, float b) { return -static_cast<Int>(a < b); }
};

// ln 2 in two parts: whole multiples of the first up to 2^15 are exact, so the reduction needs no fused step.
struct Ln2 {
  static constexpr float kHigh = 0.693359375f, kLow = -2.12194440e-4f;
};

constexpr int kMantissaBits = 23;

// e^x for x <= 88, within 2 units in the last place; 0 where e^x would be no normal number (x < -87.33), NaN
// for NaN. x = n ln 2 + r, |r| <= ln 2 / 2; the polynomial is the minimax one of e^r that begins with 1 + r.
template <bool kFused, typename F>
DEEPLAB_FAST_INLINE F exp_of(const F& x) {
  using A = Arithmetic<kFused, F>;
  constexpr float kLeast = -87.33654f;       // ln 2^-126
  constexpr float kLog2E = 1.44269504f;      // 1 / ln 2
  constexpr float kToInteger = 12582912.0f;  // 1.5 * 2^23: adding it leaves n in the lowest bits
  const F shifted = A::mul_add(x, F{} + kLog2E, F{} + kToInteger);
  const F n = shifted - kToInteger;
  const F r = A::mul_add(n, F{} - Ln2::kLow, A::mul_add(n, F{} - Ln2::kHigh, x));
  F p = A::mul_add(F{} + 1.3814540e-3f, r, F{} + 8.3687451e-3f);
  p = A::mul_add(p, r, F{} + 4.1668391e-2f);
  p = A::mul_add(p, r, F{} + 1.6666520e-1f);
  p = A::mul_add(p, r, F{} + 4.9999993e-1f);
  p = A::mul_add(p, r, F{} + 1.0f);
  p = A::mul_add(p, r, F{} + 1.0f);
  const typename A::Int scaled = A::scale(A::bits_of(p), A::bits_of(shifted));
  return A::from_bits(scaled & ~A::less(x, F{} + kLeast));
}

// ln(x) for normal x > 0, within 2 units in the last place or 1e-7; NaN for NaN and infinity.
// The polynomial is that of the Cephes library's logf.
template <bool kFused, typename F>
DEEPLAB_FAST_INLINE F log_of(const F& x) {
  using A = Arithmetic<kFused, F>;
  constexpr int32_t kSqrtHalf = 0x3F3504F3;
  const typename A::Int exponent = (A::bits_of(x) - kSqrtHalf) >> kMantissaBits;
  const F n = A::to_float(exponent);
  const F f = A::from_bits(A::bits_of(x) - exponent * (1 << kMantissaBits)) - 1.0f;
  F p = A::mul_add(F{} + 7.0376836292e-2f, f, F{} - 1.1514610310e-1f);
  p = A::mul_add(p, f, F{} + 1.1676998740e-1f);
  p = A::mul_add(p, f, F{} - 1.2420140846e-1f);
  p = A::mul_add(p, f, F{} + 1.4249322787e-1f);
  p = A::mul_add(p, f, F{} - 1.6668057665e-1f);
  p = A::mul_add(p, f, F{} + 2.0000714765e-1f);
  p = A::mul_add(p, f, F{} - 2.4999993993e-1f);
  p = A::mul_add(p, f, F{} + 3.3333331174e-1f);
  const F square = f * f;
  F y = A::mul_add(n, F{} + Ln2::kLow, square * f * p);
  y = A::mul_add(F{} - 0.5f, square, y);
  return A::mul_add(n, F{} + Ln2::kHigh, f + y) + (x - x);
}

}  // namespace deeplab_fast
