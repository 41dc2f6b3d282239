// One spelling for functions that g++ and nvcc both compile.
#pragma once

#ifdef __CUDACC__
#define DEEPLAB_FAST_HD __host__ __device__ inline
#else
#define DEEPLAB_FAST_HD inline
#endif
