// 1x1 convolutions: [rows, summed] x W -> [rows, columns], in tiles of 128 x kColumns.
#pragma once

#include <cutlass/gemm/collective/collective_builder.hpp>

#include "epilogue.h"

namespace deeplab_fast::gemm {

template <Op kOp, class Element, int kColumns>
void conv1x1(const Product& p) {
  using Tile = cute::Shape<cute::_128, cute::Int<kColumns>, cute::_64>;
  // W lies as torch keeps it, [out, in]: summed over its last axis forward, over its first in the gradient.
  using LayoutB = cute::conditional_t<kOp == Op::forward, cutlass::layout::ColumnMajor, Row>;
  using Epilogue = BatchNormEpilogue<kOp, Element, Tile>;
  using Shared = typename Epilogue::Collective::SharedStorage;
  using Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
      cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Element, Row, kAligned, Element, LayoutB, kAligned,
      float, Tile, Cluster,
      cutlass::gemm::collective::StageCountAutoCarveout<static_cast<int>(sizeof(Shared))>,
      Schedule>::CollectiveOp;
  typename Mainloop::Arguments mainloop{};
  mainloop.ptr_A = static_cast<const Element*>(p.a);
  mainloop.dA = cutlass::make_cute_packed_stride(typename Mainloop::StrideA{}, {p.rows, p.summed, 1});
  mainloop.ptr_B = static_cast<const Element*>(p.weight);
  mainloop.dB = cutlass::make_cute_packed_stride(typename Mainloop::StrideB{}, {p.columns, p.summed, 1});
  using Shape = cute::Shape<int, int, int, int>;
  launch<Shape, Mainloop, Epilogue>(p, Shape{p.rows, p.columns, p.summed, 1}, mainloop);
}

}  // namespace deeplab_fast::gemm
