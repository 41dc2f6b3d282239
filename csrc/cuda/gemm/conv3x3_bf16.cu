#include "conv3x3.h"

namespace deeplab_fast::gemm {

void conv3x3_forward_bf16(const Product& p) { Conv3x3<Op::forward, cutlass::bfloat16_t, 128>::run(p); }
void conv3x3_backward_bf16(const Product& p) { Conv3x3<Op::backward, cutlass::bfloat16_t, 128>::run(p); }

}  // namespace deeplab_fast::gemm
