// Vectors of numbers whose code is that of the processor the caller is compiled for.
//
// The compiler's own vector types (GCC, Clang) and always inlined functions over them: one source for
// AVX-512, AVX2, SSE2 and NEON. Vectors are handed on by reference, since a function that was not inlined
// would pass them in another way for each instruction set; for results the compiler's word on that is moot.
#pragma once

#include <cstdint>
#include <cstring>

// Before the formulas, which return vectors too.
#pragma GCC diagnostic ignored "-Wpsabi"
#include "../core/exp.h"

namespace deeplab_fast {

template <int kLanes>
struct LaneTypes;

#define DEEPLAB_FAST_LANES(count)                                  \
  template <>                                                      \
  struct LaneTypes<count> {                                        \
    typedef float Float __attribute__((vector_size(4 * count)));   \
    typedef int32_t Int __attribute__((vector_size(4 * count)));   \
    typedef uint32_t Bits __attribute__((vector_size(4 * count))); \
    typedef double Double __attribute__((vector_size(8 * count))); \
  };
DEEPLAB_FAST_LANES(2)
DEEPLAB_FAST_LANES(4)
DEEPLAB_FAST_LANES(8)
DEEPLAB_FAST_LANES(16)
#undef DEEPLAB_FAST_LANES

template <int kLanes>
using FloatLanes = typename LaneTypes<kLanes>::Float;
template <int kLanes>
using IntLanes = typename LaneTypes<kLanes>::Int;

template <bool kFused, int kLanes>
struct LaneArithmetic {
  using Float = FloatLanes<kLanes>;
  using Int = IntLanes<kLanes>;

  static DEEPLAB_FAST_INLINE Float mul_add(const Float& a, const Float& b, const Float& c) {
    if constexpr (kFused) {
      Float sum;  // compilers make one instruction of it
      for (int i = 0; i < kLanes; ++i) sum[i] = __builtin_fmaf(a[i], b[i], c[i]);
      return sum;
    } else {
      return a * b + c;
    }
  }
  static DEEPLAB_FAST_INLINE Int bits_of(const Float& value) { return reinterpret_cast<Int>(value); }
  static DEEPLAB_FAST_INLINE Float from_bits(const Int& bits) { return reinterpret_cast<Float>(bits); }
  static DEEPLAB_FAST_INLINE Int scale(const Int& p, const Int& n) {
    using Bits = typename LaneTypes<kLanes>::Bits;  // may wrap around
    return reinterpret_cast<Int>(reinterpret_cast<Bits>(p) + (reinterpret_cast<Bits>(n) << kMantissaBits));
  }
  static DEEPLAB_FAST_INLINE Float to_float(const Int& value) {
    return __builtin_convertvector(value, Float);
  }
  static DEEPLAB_FAST_INLINE Int less(const Float& a, const Float& b) { return a < b; }
};

template <bool kFused>
struct Arithmetic<kFused, FloatLanes<4>> : LaneArithmetic<kFused, 4> {};
template <bool kFused>
struct Arithmetic<kFused, FloatLanes<8>> : LaneArithmetic<kFused, 8> {};
template <bool kFused>
struct Arithmetic<kFused, FloatLanes<16>> : LaneArithmetic<kFused, 16> {};

template <int kLanes>
DEEPLAB_FAST_INLINE FloatLanes<kLanes> load(const float* from) {
  FloatLanes<kLanes> lanes;
  std::memcpy(&lanes, from, sizeof lanes);
  return lanes;
}

// The value in every lane. Subtracting 0 changes no value, as adding it to -0 would.
template <int kLanes>
DEEPLAB_FAST_INLINE FloatLanes<kLanes> splat(float value) {
  return value - FloatLanes<kLanes>{};
}

template <typename Lanes>
DEEPLAB_FAST_INLINE void store(const Lanes& lanes, float* to) {
  std::memcpy(to, &lanes, sizeof lanes);
}

template <typename Lanes>
DEEPLAB_FAST_INLINE Lanes smaller(const Lanes& a, const Lanes& b) {
  return a < b ? a : b;
}

template <typename Lanes>
DEEPLAB_FAST_INLINE Lanes larger(const Lanes& a, const Lanes& b) {
  return a > b ? a : b;
}

template <int kLanes>
DEEPLAB_FAST_INLINE float sum_of(const FloatLanes<kLanes>& lanes) {
  if constexpr (kLanes == 2) {
    return lanes[0] + lanes[1];
  } else {
    FloatLanes<kLanes / 2> low, high;
    std::memcpy(&low, &lanes, sizeof low);
    std::memcpy(&high, reinterpret_cast<const char*>(&lanes) + sizeof low, sizeof high);
    return sum_of<kLanes / 2>(low + high);
  }
}

}  // namespace deeplab_fast
