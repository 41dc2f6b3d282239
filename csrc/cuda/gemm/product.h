// The argument list of the kernels, and the instances that there are.
#pragma once

#include <cuda_runtime.h>

#include "../../api.h"
#include "../check.h"

namespace deeplab_fast::gemm {

struct Product {
  int rows, columns, summed;  // [rows, summed] x weight -> [rows, columns]; summed: channels, of each tap
  const void* a;
  const void* weight;  // [columns, taps, summed] forward, [summed, taps, columns] in the gradient
  void* out;
  float* parts;                                           // [ceil(rows / 128)][3 or 2][columns]
  NormInput norm{};                                       // of the gradient
  const void *residual = nullptr, *activation = nullptr;  // of `residual`
  ConvWindow window{};                                    // of 3x3
  int device = 0, multiprocessors = 0;
  void* stream = nullptr;
};

// Those of few columns have a narrower tile in bf16.
void conv1x1_forward_bf16(const Product& product);
void conv1x1_backward_bf16(const Product& product);
void conv1x1_residual_bf16(const Product& product);
void conv1x1_forward_fp16(const Product& product);
void conv1x1_backward_fp16(const Product& product);
void conv1x1_residual_fp16(const Product& product);
void conv3x3_forward_bf16(const Product& product);
void conv3x3_backward_bf16(const Product& product);

}  // namespace deeplab_fast::gemm
