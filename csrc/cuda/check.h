// CUDA's return codes as exceptions.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "../api.h"

namespace deeplab_fast {

inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw DeviceError(std::string(what) + ": " + cudaGetErrorString(status));
}

}  // namespace deeplab_fast
