// The epilogue collective around bn_epilogue.h's node, and the launch: what the matrix product and the
// convolution share.
#pragma once

#include <cutlass/gemm/device/gemm_universal_adapter.h>

#include <cute/tensor.hpp>
#include <cutlass/epilogue/collective/collective_builder.hpp>
#include <cutlass/gemm/kernel/gemm_universal.hpp>
#include <cutlass/util/packed_stride.hpp>

#include "bn_epilogue.h"
#include "product.h"

namespace deeplab_fast::gemm {

using Row = cutlass::layout::RowMajor;
using Cluster = cute::Shape<cute::_1, cute::_1, cute::_1>;
// Two consumer warp groups take turns: while one's product runs, the other's epilogue does.
using Schedule = cutlass::gemm::KernelTmaWarpSpecializedPingpong;
constexpr int kAligned = 8;  // elements in the 16 bytes of a TMA stride

inline void must(cutlass::Status status, const char* what) {
  if (status == cutlass::Status::kSuccess) return;
  throw DeviceError(std::string("CUTLASS: the product ") + what + " (" + cutlassGetStatusString(status) +
                    ")");
}

// Of [rows, columns] in tiles of Tile.
template <Op kOp, class Element, class Tile>
struct BatchNormEpilogue {
  static constexpr bool kIsForward = kOp == Op::forward;
  using ElementC = cute::conditional_t<kIsForward, void, Element>;
  using Schedule = cutlass::epilogue::TmaWarpSpecialized;
  using Auto = cutlass::epilogue::collective::EpilogueTileAuto;

  using Descriptor =
      cutlass::epilogue::collective::detail::EpilogueDescriptor<Tile, Auto, ElementC, Element, Schedule>;
  using LoadDescriptor = cutlass::epilogue::collective::detail::AuxLoadDescriptor<Descriptor, Row, Element>;
  using Load = cutlass::epilogue::fusion::Sm90AuxLoad<
      LoadDescriptor::Stages, typename Descriptor::EpilogueTile, Element, typename LoadDescriptor::Stride,
      typename LoadDescriptor::SmemLayoutAtom, typename LoadDescriptor::CopyOpS2R, kAligned, false>;
  using Node = BatchNormNode<kOp, Element>;
  using Accumulator = cutlass::epilogue::fusion::Sm90AccFetch;
  using Source = cutlass::epilogue::fusion::Sm90SrcFetch<Element>;
  template <class... Inputs>
  using Tree = cutlass::epilogue::fusion::Sm90EVT<Node, Accumulator, Inputs...>;
  using Fusion =
      cute::conditional_t<kIsForward, Tree<>,
                          cute::conditional_t<kOp == Op::backward, Tree<Source>, Tree<Source, Load, Load>>>;

  using Collective = typename cutlass::epilogue::collective::CollectiveBuilder<
      cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Tile, Cluster, Auto, float, float, ElementC, Row,
      kAligned, Element, Row, kAligned, Schedule, Fusion>::CollectiveOp;

  static typename Collective::Arguments arguments(const Product& p) {
    const auto stride =
        cutlass::make_cute_packed_stride(typename Collective::StrideD{}, {p.rows, p.columns, 1});
    typename Collective::Arguments given{};
    given.ptr_D = static_cast<Element*>(p.out);
    given.dD = stride;
    const typename Node::Arguments node{p.norm, p.parts};
    if constexpr (kIsForward) {
      given.thread = {{}, node};
    } else {
      given.ptr_C = static_cast<const Element*>(p.norm.x);
      given.dC = stride;
      if constexpr (kOp == Op::backward) {
        given.thread = {{}, {}, node};
      } else {
        const auto load = [&](const void* map) {
          return typename Load::Arguments{static_cast<const Element*>(map), Element(0), stride};
        };
        given.thread = {{}, {}, load(p.residual), load(p.activation), node};
      }
    }
    return given;
  }
};

// A kernel of a mainloop and that epilogue; Shape is what the problem is described by.
template <class Shape, class Mainloop, class Epilogue>
void launch(const Product& p, const Shape& shape, const typename Mainloop::Arguments& mainloop) {
  using Kernel = cutlass::gemm::kernel::GemmUniversal<Shape, Mainloop, typename Epilogue::Collective>;
  using Gemm = cutlass::gemm::device::GemmUniversalAdapter<Kernel>;
  static_assert(sizeof(typename Kernel::SharedStorage) <= 232448 - 1024);
  typename Gemm::Arguments arguments{};
  arguments.mode = cutlass::gemm::GemmUniversalMode::kGemm;
  arguments.problem_shape = shape;
  arguments.mainloop = mainloop;
  arguments.epilogue = Epilogue::arguments(p);
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

}  // namespace deeplab_fast::gemm
