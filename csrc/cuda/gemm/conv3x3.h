// 3x3 convolutions of stride 1 whose output has the size of their input, at any rate up to 15: CUTLASS's
// implicit matrix product, in tiles of 128 x kColumns.
//
// CUTLASS 4.2 has it for kernels of one tile a block; `Im2col` fits it into the persistent kernel of the 1x1
// convolutions, in which one tile's epilogue hides behind the next one's product. A convolution of three
// dimensions does both orders of pixels: of [N, H, W] the taps are 1x3x3 and the images the batch, of
// pixel-major [H, W, N] the taps are 3x3x1 and the images the innermost dimension.
#pragma once

#include "epilogue.h"
#include "im2col.h"

namespace deeplab_fast::gemm {

template <Op kOp, class Element, int kColumns>
void conv3x3(const Product& p) {
  namespace conv = cutlass::conv;
  constexpr auto kOperator = kOp == Op::forward ? conv::Operator::kFprop : conv::Operator::kDgrad;
  using Tile = cute::Shape<cute::_128, cute::Int<kColumns>, cute::Shape<cute::_64>>;
  using Epilogue = BatchNormEpilogue<kOp, Element, Tile>;
  using Shared = typename Epilogue::Collective::SharedStorage;
  // The builder knows only the schedule of one tile a block; its stages and layouts serve.
  using Built = typename conv::collective::CollectiveBuilder<
      cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, kOperator, Element, cutlass::layout::TensorNDHWC,
      kAligned, Element, cutlass::layout::TensorNDHWC, kAligned, float, Tile, Cluster,
      conv::collective::StageCountAutoCarveout<static_cast<int>(sizeof(Shared))>,
      conv::KernelImplicitTmaWarpSpecializedSm90>::CollectiveOp;
  using Policy =
      conv::MainloopSm90TmaGmmaWarpSpecializedImplicitGemm<kOperator, Built::DispatchPolicy::Stages, 3,
                                                           Cluster, Schedule>;
  using Collective =
      conv::collective::CollectiveConv<Policy, Tile, Element, Element, typename Built::TiledMma,
                                       conv::collective::detail::Sm90ImplicitGemmTileTraits<
                                           typename Built::GmemTiledCopyA, typename Built::SmemLayoutA>,
                                       conv::collective::detail::Sm90ImplicitGemmTileTraits<
                                           typename Built::GmemTiledCopyB, typename Built::SmemLayoutB>>;
  using Mainloop = Im2col<Collective>;
  using Problem = typename Mainloop::Problem;
  using Extent = typename Problem::TensorExtent;
  using Space = typename Problem::SpatialExtent;

  const auto& w = p.window;
  const int in = kOp == Op::forward ? p.summed : p.columns, out = kOp == Op::forward ? p.columns : p.summed;
  const Extent map =
      w.pixel_major ? Extent{1, w.height, w.width, w.images, in} : Extent{w.images, 1, w.height, w.width, in};
  const Extent taps = w.pixel_major ? Extent{out, 3, 3, 1, in} : Extent{out, 1, 3, 3, in};
  const Space reach = w.pixel_major ? Space{w.rate, w.rate, 0} : Space{0, w.rate, w.rate};
  const Space rates = w.pixel_major ? Space{w.rate, w.rate, 1} : Space{1, w.rate, w.rate};
  const Problem problem(conv::Mode::kCrossCorrelation, map, taps, reach, reach, Space{1, 1, 1}, rates, 1);

  typename Mainloop::Arguments mainloop{};
  mainloop.maps.ptr_A = static_cast<const Element*>(p.a);
  mainloop.maps.ptr_B = static_cast<const Element*>(p.weight);
  mainloop.problem = problem;
  const auto [rows, columns, taps_and_channels, batches] =
      conv::detail::get_linearized_problem_shape_MNKL(problem);
  const auto shape = cute::make_shape(int(rows), int(columns), taps_and_channels, 1);
  launch<cute::remove_cvref_t<decltype(shape)>, Mainloop, Epilogue>(p, shape, mainloop);
}

}  // namespace deeplab_fast::gemm
