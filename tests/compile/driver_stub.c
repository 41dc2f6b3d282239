// Stands in for libcuda.so.1: Triton's own launcher packs arguments, encodes descriptors and launches, and
// what the driver would refuse is refused here. The limits are those of the CUDA driver API's reference, and
// an H200's.
#include <cuda.h>
#include <stdio.h>
#include <string.h>

enum { MOST_SHARED = 232448, MULTIPROCESSORS = 132 };

#define REQUIRE(condition, ...)      \
  if (!(condition)) {                \
    fprintf(stderr, __VA_ARGS__);    \
    return CUDA_ERROR_INVALID_VALUE; \
  }

CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** arguments, void** extra) {
  REQUIRE(config->gridDimX && config->gridDimX <= 2147483647u, "grid x %u\n", config->gridDimX)
  REQUIRE(config->gridDimY && config->gridDimY <= 65535u, "grid y %u\n", config->gridDimY)
  REQUIRE(config->gridDimZ && config->gridDimZ <= 65535u, "grid z %u\n", config->gridDimZ)
  REQUIRE(config->sharedMemBytes <= MOST_SHARED, "%u bytes of shared memory\n", config->sharedMemBytes)
  return CUDA_SUCCESS;
}

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* address,
                                const cuuint64_t* sizes, const cuuint64_t* strides, const cuuint32_t* box,
                                const cuuint32_t* steps, CUtensorMapInterleave interleave,
                                CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                                CUtensorMapFloatOOBfill fill) {
  const unsigned bytes = box[0] * (type == CU_TENSOR_MAP_DATA_TYPE_FLOAT32 ? 4 : 2);
  const unsigned widest = swizzle == CU_TENSOR_MAP_SWIZZLE_32B    ? 32
                          : swizzle == CU_TENSOR_MAP_SWIZZLE_64B  ? 64
                          : swizzle == CU_TENSOR_MAP_SWIZZLE_128B ? 128
                                                                  : ~0u;
  REQUIRE((unsigned long long)address % 16 == 0, "descriptor: address %p\n", address)
  REQUIRE(rank >= 1 && rank <= 5, "descriptor: rank %u\n", rank)
  REQUIRE(bytes % 16 == 0 && bytes <= widest, "descriptor: %u bytes inside, swizzle %u\n", bytes, widest)
  for (unsigned i = 0; i < rank; i++) {
    REQUIRE(sizes[i] && sizes[i] <= 1ull << 32, "descriptor: size %u is %llu\n", i,
            (unsigned long long)sizes[i])
    REQUIRE(box[i] && box[i] <= 256 && steps[i] == 1, "descriptor: box %u is %u by %u\n", i, box[i], steps[i])
  }
  for (unsigned i = 0; i + 1 < rank; i++)
    REQUIRE(strides[i] % 16 == 0 && strides[i] < 1ull << 40, "descriptor: stride %u is %llu bytes\n", i,
            (unsigned long long)strides[i])
  memset(map, 0, sizeof *map);
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
  *value = attribute == CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN      ? MOST_SHARED
           : attribute == CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR ? MOST_SHARED + 1024
           : attribute == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT                 ? MULTIPROCESSORS
           : attribute == CU_DEVICE_ATTRIBUTE_WARP_SIZE                            ? 32
                                                                                   : 65536;
  return CUDA_SUCCESS;
}

CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction function) {
  *value = attribute == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024 : 0;
  return CUDA_SUCCESS;
}

CUresult cuPointerGetAttribute(void* value, CUpointer_attribute attribute, CUdeviceptr pointer) {
  *(CUdeviceptr*)value = pointer;
  return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult error, const char** text) {
  *text = "refused by the stand-in";
  return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext* context) {
  *context = (CUcontext)1;
  return CUDA_SUCCESS;
}

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  *module = (CUmodule)1;
  return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  *function = (CUfunction)1;
  return CUDA_SUCCESS;
}

// Triton's module names these too; none of them is reached with an answer that matters.
#define NOTHING(name, ...) \
  CUresult name(__VA_ARGS__) { return CUDA_SUCCESS; }
NOTHING(cuCtxSetCurrent, CUcontext context)
NOTHING(cuCtxGetLimit, size_t* value, CUlimit limit)
NOTHING(cuCtxSetLimit, CUlimit limit, size_t value)
NOTHING(cuDeviceGet, CUdevice* device, int ordinal)
NOTHING(cuDevicePrimaryCtxRetain, CUcontext* context, CUdevice device)
NOTHING(cuDriverGetVersion, int* version)
NOTHING(cuFuncSetAttribute, CUfunction function, CUfunction_attribute attribute, int value)
NOTHING(cuFuncSetCacheConfig, CUfunction function, CUfunc_cache config)
