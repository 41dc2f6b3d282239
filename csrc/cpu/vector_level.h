// Which instruction set to run with.
//
// A kernel is written once, as always inlined templates over lanes (lanes.h). A function with one of the
// attributes below calls it for each instruction set, and the compiler makes that set's code of what it
// inlines there. The generic one is right on any processor.
#pragma once

#include "../api.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define DEEPLAB_FAST_X86
#define DEEPLAB_FAST_FOR_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")))
#define DEEPLAB_FAST_FOR_AVX2 __attribute__((target("avx2,fma")))
#endif

namespace deeplab_fast {

// Lanes of each.
constexpr int kGenericLanes = 4, kAvx2Lanes = 8, kAvx512Lanes = 16;

// Whether every processor that the generic build runs on multiplies and adds in one instruction.
#if defined(__aarch64__) || defined(__FMA__)
constexpr bool kGenericFused = true;
#else
constexpr bool kGenericFused = false;
#endif

enum class VectorLevel { generic, avx2, avx512 };

// The widest that this processor has, held down by limit_vector_extension.
VectorLevel vector_level();

}  // namespace deeplab_fast
