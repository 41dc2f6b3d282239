// The argument list of a kernel of kernel.h, and the instances that there are.
#pragma once

#include <cuda_runtime.h>

#include "../../api.h"
#include "../check.h"

namespace deeplab_fast::gemm {

struct Product {
  int rows, columns, summed;  // [rows, summed] x weight -> [rows, columns]
  const void* a;
  const void* weight;  // [columns, summed] forward, [summed, columns] in the gradient
  void* out;
  float* parts;  // [ceil(rows / 128)][3 or 2][columns]
  NormInput norm;                     // of the gradient
  const void *residual, *activation;  // of `residual`
  int device, multiprocessors;
  void* stream;
};

// Each chooses its tile by the columns; one for each file forward_bf16.cu and so on.
void forward_bf16(const Product& product);
void forward_fp16(const Product& product);
void backward_bf16(const Product& product);
void backward_fp16(const Product& product);
void residual_bf16(const Product& product);
void residual_fp16(const Product& product);

}  // namespace deeplab_fast::gemm
