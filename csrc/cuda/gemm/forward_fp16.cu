#include "kernel.h"

namespace deeplab_fast::gemm {

void forward_fp16(const Product& product) { run<Op::forward, cutlass::half_t>(product); }

}  // namespace deeplab_fast::gemm
