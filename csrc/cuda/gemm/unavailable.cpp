// The functions of a build without CUTLASS's kernels: each says why there are none.
#include "../../api.h"

namespace deeplab_fast {
namespace {

[[noreturn]] void refuse() {
  throw DeviceError("this build has no products for BatchNorm: " + gemm_missing());
}

}  // namespace

std::string gemm_missing() {
  std::string found = build_info().at("GEMM");
  const std::string prefix = "missing: ";
  return found.compare(0, prefix.size(), prefix) == 0 ? found.substr(prefix.size()) : found;
}

void conv1x1_cuda(Element, const void*, const void*, void*, float*, int, int, int, void*) { refuse(); }

void conv3x3_cuda(Element, const void*, const void*, void*, float*, const ConvWindow&, int, int, void*) {
  refuse();
}

void conv1x1_gradient_cuda(Element, const void*, const void*, const NormInput&, const void*, const void*,
                           void*, float*, int, int, int, void*) {
  refuse();
}

void conv3x3_gradient_cuda(Element, const void*, const void*, const NormInput&, void*, float*,
                           const ConvWindow&, int, int, void*) {
  refuse();
}

}  // namespace deeplab_fast
