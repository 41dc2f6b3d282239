#include "kernel.h"

namespace deeplab_fast::gemm {

void residual_bf16(const Product& product) { run<Op::residual, cutlass::bfloat16_t>(product); }

}  // namespace deeplab_fast::gemm
