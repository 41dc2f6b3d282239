// Checks what the kernels are given and chooses among them.
#include "product.h"

namespace deeplab_fast {
namespace {

using gemm::Product;

constexpr int kHopper = 9, kFarthest = 15;  // the taps' distance fits into five bits, twice

void check_channels(int in, int out) {
  if (in % 8 != 0 || out % 8 != 0 || in <= 0 || out <= 0) {
    throw DeviceError(std::to_string(in) + " and " + std::to_string(out) +
                      " channels; expected multiples of 8");
  }
}

int rows_of(const ConvWindow& window) {
  if (window.rate < 1 || window.rate > kFarthest) {
    throw DeviceError("rate " + std::to_string(window.rate) + "; expected 1 to " + std::to_string(kFarthest));
  }
  return window.images * window.height * window.width;
}

using Run = void (*)(const Product&);

void run(Element type, Run bf16, Run fp16, Product product) {
  check_channels(product.columns, product.summed);
  const Run chosen = type == Element::bfloat16 ? bf16 : type == Element::float16 ? fp16 : nullptr;
  if (chosen == nullptr)
    throw DeviceError(fp16 == nullptr ? "expected bfloat16" : "expected bfloat16 or float16");
  for (const void* map : {product.a, product.weight, static_cast<const void*>(product.out), product.norm.x,
                          product.residual, product.activation}) {
    if (reinterpret_cast<uintptr_t>(map) % 16 != 0)
      throw DeviceError("a map's address; expected multiples of 16");
  }
  if (product.rows == 0) return;
  check(cudaGetDevice(&product.device), "the current device");
  check(cudaDeviceGetAttribute(&product.multiprocessors, cudaDevAttrMultiProcessorCount, product.device),
        "its multiprocessors");
  chosen(product);
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

void conv1x1_cuda(Element type, const void* a, const void* weight, void* y, float* parts, int rows, int in,
                  int out, void* stream) {
  Product product{rows, out, in, a, weight, y, parts};
  product.stream = stream;
  run(type, gemm::conv1x1_forward_bf16, gemm::conv1x1_forward_fp16, product);
}

void conv3x3_cuda(Element type, const void* a, const void* weight, void* y, float* parts,
                  const ConvWindow& window, int in, int out, void* stream) {
  Product product{rows_of(window), out, in, a, weight, y, parts};
  product.window = window;
  product.stream = stream;
  run(type, gemm::conv3x3_forward_bf16, nullptr, product);
}

void conv1x1_gradient_cuda(Element type, const void* dy, const void* weight, const NormInput& norm,
                           const void* added, const void* activation, void* dz, float* parts, int rows,
                           int in, int out, void* stream) {
  if ((added == nullptr) != (activation == nullptr))
    throw DeviceError("added and activation: expected both or none");
  Product product{rows, in, out, dy, weight, dz, parts, norm, added, activation};
  product.stream = stream;
  if (added != nullptr) {
    run(type, gemm::conv1x1_residual_bf16, gemm::conv1x1_residual_fp16, product);
  } else {
    run(type, gemm::conv1x1_backward_bf16, gemm::conv1x1_backward_fp16, product);
  }
}

void conv3x3_gradient_cuda(Element type, const void* dy, const void* weight, const NormInput& norm, void* dz,
                           float* parts, const ConvWindow& window, int in, int out, void* stream) {
  Product product{rows_of(window), in, out, dy, weight, dz, parts, norm};
  product.window = window;
  product.stream = stream;
  run(type, gemm::conv3x3_backward_bf16, nullptr, product);
}

}  // namespace deeplab_fast
