#include "kernel.h"

namespace deeplab_fast::gemm {

void backward_fp16(const Product& product) { run<Op::backward, cutlass::half_t>(product); }

}  // namespace deeplab_fast::gemm
