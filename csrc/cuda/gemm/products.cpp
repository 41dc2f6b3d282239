// Checks what the kernels are given and chooses among them.
#include "product.h"

namespace deeplab_fast {
namespace {

constexpr int kHopper = 9;

struct Device {
  int number = 0, multiprocessors = 0;

  Device() {
    check(cudaGetDevice(&number), "the current device");
    check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, number), "its multiprocessors");
  }
};

void check_channels(int in, int out) {
  if (in % 8 != 0 || out % 8 != 0 || in <= 0 || out <= 0) {
    throw DeviceError(std::to_string(in) + " and " + std::to_string(out) + " channels; expected multiples of 8");
  }
}

using Run = void (*)(const gemm::Product&);

void run(Element type, Run bf16, Run fp16, const gemm::Product& product) {
  if (type != Element::bfloat16 && type != Element::float16) throw DeviceError("expected bfloat16 or float16");
  if (product.rows > 0) (type == Element::bfloat16 ? bf16 : fp16)(product);
}

}  // namespace

std::string gemm_missing() {
  int device = 0, major = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess) {
    return std::string("no CUDA device (") + cudaGetErrorString(cudaGetLastError()) + ")";
  }
  return major == kHopper ? "" : "compute capability " + std::to_string(major) + ".x; expected 9.0 (Hopper)";
}

void conv1x1_cuda(Element type, const void* a, const void* weight, void* y, float* parts, int rows, int in, int out,
                  void* stream) {
  check_channels(in, out);
  const Device device;
  run(type, gemm::forward_bf16, gemm::forward_fp16,
      {rows, out, in, a, weight, y, parts, {}, nullptr, nullptr, device.number, device.multiprocessors, stream});
}

void conv1x1_gradient_cuda(Element type, const void* dy, const void* weight, const NormInput& norm, const void* added,
                           const void* activation, void* dz, float* parts, int rows, int in, int out, void* stream) {
  check_channels(in, out);
  if ((added == nullptr) != (activation == nullptr)) throw DeviceError("added and activation: expected both or none");
  const Device device;
  const gemm::Product product{rows,  in,         out,           dy,                     weight, dz, parts, norm,
                              added, activation, device.number, device.multiprocessors, stream};
  if (added != nullptr) {
    run(type, gemm::residual_bf16, gemm::residual_fp16, product);
  } else {
    run(type, gemm::backward_bf16, gemm::backward_fp16, product);
  }
}

}  // namespace deeplab_fast
