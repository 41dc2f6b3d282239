// A matrix product with BatchNorm's share in its epilogue, by CUTLASS for Hopper: one instance of which api.h's Product
// is the argument list.
#pragma once

#include <cute/tensor.hpp>

#include <cutlass/epilogue/collective/collective_builder.hpp>
#include <cutlass/gemm/collective/collective_builder.hpp>
#include <cutlass/gemm/device/gemm_universal_adapter.h>
#include <cutlass/gemm/kernel/gemm_universal.hpp>
#include <cutlass/util/packed_stride.hpp>

#include "bn_epilogue.h"
#include "product.h"

namespace deeplab_fast::gemm {

// [rows, summed] x W -> [rows, columns], in tiles of 128 x kColumns. Two consumer warp groups take turns: while one's
// product runs, the other's epilogue does.
template <Op kOp, class Element, int kColumns>
struct Kernel {
  using Tile = cute::Shape<cute::_128, cute::Int<kColumns>, cute::_64>;
  using Cluster = cute::Shape<cute::_1, cute::_1, cute::_1>;
  using Row = cutlass::layout::RowMajor;
  static constexpr bool kIsForward = kOp == Op::forward;
  // W lies as torch keeps it, [K, C] = [out, in]: summed over its last axis forward, over its first in the gradient.
  using LayoutB = cute::conditional_t<kIsForward, cutlass::layout::ColumnMajor, Row>;
  using ElementC = cute::conditional_t<kIsForward, void, Element>;
  using Schedule = cutlass::epilogue::TmaWarpSpecialized;
  static constexpr int kAligned = 8;  // elements in the 16 bytes of a TMA stride

  using Descriptor = cutlass::epilogue::collective::detail::EpilogueDescriptor<
      Tile, cutlass::epilogue::collective::EpilogueTileAuto, ElementC, Element, Schedule>;
  using LoadDescriptor = cutlass::epilogue::collective::detail::AuxLoadDescriptor<Descriptor, Row, Element>;
  using Load = cutlass::epilogue::fusion::Sm90AuxLoad<
      LoadDescriptor::Stages, typename Descriptor::EpilogueTile, Element, typename LoadDescriptor::Stride,
      typename LoadDescriptor::SmemLayoutAtom, typename LoadDescriptor::CopyOpS2R, kAligned, false>;
  using Node = BatchNormNode<kOp, Element>;
  using Accumulator = cutlass::epilogue::fusion::Sm90AccFetch;
  using Source = cutlass::epilogue::fusion::Sm90SrcFetch<Element>;
  template <class... Inputs>
  using Tree = cutlass::epilogue::fusion::Sm90EVT<Node, Accumulator, Inputs...>;
  using Fusion = cute::conditional_t<kIsForward, Tree<>,
                                     cute::conditional_t<kOp == Op::backward, Tree<Source>, Tree<Source, Load, Load>>>;

  using Epilogue = typename cutlass::epilogue::collective::CollectiveBuilder<
      cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Tile, Cluster,
      cutlass::epilogue::collective::EpilogueTileAuto, float, float, ElementC, Row, kAligned, Element, Row, kAligned,
      Schedule, Fusion>::CollectiveOp;
  using Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
      cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Element, Row, kAligned, Element, LayoutB, kAligned, float,
      Tile, Cluster,
      cutlass::gemm::collective::StageCountAutoCarveout<static_cast<int>(sizeof(typename Epilogue::SharedStorage))>,
      cutlass::gemm::KernelTmaWarpSpecializedPingpong>::CollectiveOp;
  using GemmKernel = cutlass::gemm::kernel::GemmUniversal<cute::Shape<int, int, int, int>, Mainloop, Epilogue>;
  using Gemm = cutlass::gemm::device::GemmUniversalAdapter<GemmKernel>;

  static void run(const Product& p) {
    typename Gemm::Arguments arguments{};
    arguments.mode = cutlass::gemm::GemmUniversalMode::kGemm;
    arguments.problem_shape = {p.rows, p.columns, p.summed, 1};
    arguments.mainloop.ptr_A = static_cast<const Element*>(p.a);
    arguments.mainloop.dA = cutlass::make_cute_packed_stride(typename GemmKernel::StrideA{}, {p.rows, p.summed, 1});
    arguments.mainloop.ptr_B = static_cast<const Element*>(p.weight);
    arguments.mainloop.dB = cutlass::make_cute_packed_stride(typename GemmKernel::StrideB{}, {p.columns, p.summed, 1});
    const auto stride = cutlass::make_cute_packed_stride(typename GemmKernel::StrideD{}, {p.rows, p.columns, 1});
    arguments.epilogue.ptr_D = static_cast<Element*>(p.out);
    arguments.epilogue.dD = stride;
    const typename Node::Arguments node{p.norm, p.parts};
    if constexpr (kIsForward) {
      arguments.epilogue.thread = {{}, node};
    } else {
      arguments.epilogue.ptr_C = static_cast<const Element*>(p.norm.x);
      arguments.epilogue.dC = stride;
      if constexpr (kOp == Op::backward) {
        arguments.epilogue.thread = {{}, {}, node};
      } else {
        arguments.epilogue.thread = {{},
                                     {},
                                     {static_cast<const Element*>(p.residual), Element(0), stride},
                                     {static_cast<const Element*>(p.activation), Element(0), stride},
                                     node};
      }
    }
    arguments.hw_info.device_id = p.device;
    arguments.hw_info.sm_count = p.multiprocessors;
    arguments.scheduler.max_swizzle_size = 1;
    Gemm gemm;
    must(Gemm::can_implement(arguments), "cannot be done");
    if (Gemm::get_workspace_size(arguments) != 0) throw DeviceError("CUTLASS: asks for a workspace");
    const auto stream = static_cast<cudaStream_t>(p.stream);
    must(gemm.initialize(arguments, nullptr, stream), "cannot be prepared");
    must(gemm.run(stream), "cannot be launched");
  }

  static void must(cutlass::Status status, const char* what) {
    if (status == cutlass::Status::kSuccess) return;
    throw DeviceError(std::string("CUTLASS: the product ") + what + " (" + cutlassGetStatusString(status) + ")");
  }

  static_assert(sizeof(typename GemmKernel::SharedStorage) <= 232448 - 1024);
};

// By the narrower tile where a wider one would be half empty, or, in the gradient of few channels, leave multiprocessors
// idle: as measured on an H200, within 8 % of the best of all tiles on every layer of ResNet-101.
template <Op kOp, class Element>
void run(const Product& p) {
  if (p.columns <= 64 || (kOp != Op::forward && p.columns <= 128)) {
    Kernel<kOp, Element, 64>::run(p);
  } else {
    Kernel<kOp, Element, 128>::run(p);
  }
}

}  // namespace deeplab_fast::gemm
