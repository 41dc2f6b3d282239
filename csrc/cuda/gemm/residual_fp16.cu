#include "kernel.h"

namespace deeplab_fast::gemm {

void residual_fp16(const Product& product) { run<Op::residual, cutlass::half_t>(product); }

}  // namespace deeplab_fast::gemm
