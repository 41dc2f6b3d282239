#include "kernel.h"

namespace deeplab_fast::gemm {

void forward_bf16(const Product& product) { run<Op::forward, cutlass::bfloat16_t>(product); }

}  // namespace deeplab_fast::gemm
