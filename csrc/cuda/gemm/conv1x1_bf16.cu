#include "conv1x1.h"

namespace deeplab_fast::gemm {

namespace {
using Bf16 = cutlass::bfloat16_t;
}

// By the narrower tile where a wider one would be half empty, or, in the gradient of few channels, leave
// multiprocessors idle: in an experiment with such kernels on an H200, within 8 % of the best of all tiles on
// every layer of ResNet-101. A block's input, which the residual's gradient is of, never has so few.
void conv1x1_forward_bf16(const Product& p) {
  (p.columns <= 64 ? conv1x1<Op::forward, Bf16, 64> : conv1x1<Op::forward, Bf16, 128>)(p);
}
void conv1x1_backward_bf16(const Product& p) {
  (p.columns <= 128 ? conv1x1<Op::backward, Bf16, 64> : conv1x1<Op::backward, Bf16, 128>)(p);
}
void conv1x1_residual_bf16(const Product& p) { conv1x1<Op::residual, Bf16, 128>(p); }

}  // namespace deeplab_fast::gemm
