#include "conv1x1.h"

namespace deeplab_fast::gemm {

// Who trains in fp16 on Hopper could as well in bf16: one tile each is enough, and spares a minute of
// compiling.
void conv1x1_forward_fp16(const Product& p) { conv1x1<Op::forward, cutlass::half_t, 128>(p); }
void conv1x1_backward_fp16(const Product& p) { conv1x1<Op::backward, cutlass::half_t, 128>(p); }
void conv1x1_residual_fp16(const Product& p) { conv1x1<Op::residual, cutlass::half_t, 128>(p); }

}  // namespace deeplab_fast::gemm
