// One spelling for functions that g++ and nvcc both compile.
#pragma once

#ifdef __CUDACC__
#define DEEPLAB_FAST_HD __host__ __device__ inline
#else
#define DEEPLAB_FAST_HD inline
#endif

// The same for functions that only become fast, or right for the caller's instruction set, within a caller.
#ifdef __GNUC__
#define DEEPLAB_FAST_INLINE DEEPLAB_FAST_HD __attribute__((always_inline))
#else
#define DEEPLAB_FAST_INLINE DEEPLAB_FAST_HD
#endif
