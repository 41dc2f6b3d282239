#include "kernel.h"

namespace deeplab_fast::gemm {

void backward_bf16(const Product& product) { run<Op::backward, cutlass::bfloat16_t>(product); }

}  // namespace deeplab_fast::gemm
