// The CUDA functions of a build without CUDA: each says why there are none.
#include "../api.h"

namespace deeplab_fast {
namespace {

[[noreturn]] void unavailable() {
  throw DeviceError("this build has no CUDA part: " + build_info().at("CUDA"));
}

}  // namespace

std::string cuda_missing() { return build_info().at("CUDA"); }

void augment_cuda(const uint8_t*, const uint8_t*, const Sample*, int, const CropOptions&, const float[3],
                  const float[3], Element, void*, uint8_t*, int32_t*, void*) {
  unavailable();
}

void count_pairs_cuda(const Integers&, const Integers&, int64_t, int, int64_t, int64_t*, uint64_t*, void*) {
  unavailable();
}

}  // namespace deeplab_fast
