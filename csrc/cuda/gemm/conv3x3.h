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
struct Conv3x3 {
  static constexpr bool kIsForward = kOp == Op::forward;
  static constexpr auto kOperator =
      kIsForward ? cutlass::conv::Operator::kFprop : cutlass::conv::Operator::kDgrad;
  using Tile = cute::Shape<cute::_128, cute::Int<kColumns>, cute::Shape<cute::_64>>;
  using Epilogue = BatchNormEpilogue<kOp, Element, Tile>;
  static constexpr int kCarveout = sizeof(typename Epilogue::Collective::SharedStorage);
  // The builder knows only the schedule of one tile a block; its stages and layouts serve.
  using Layout = cutlass::layout::TensorNDHWC;
  using Built = typename cutlass::conv::collective::CollectiveBuilder<
      cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, kOperator, Element, Layout, kAligned, Element,
      Layout, kAligned, float, Tile, Cluster, cutlass::conv::collective::StageCountAutoCarveout<kCarveout>,
      cutlass::conv::KernelImplicitTmaWarpSpecializedSm90>::CollectiveOp;
  using Policy =
      cutlass::conv::MainloopSm90TmaGmmaWarpSpecializedImplicitGemm<kOperator, Built::DispatchPolicy::Stages,
                                                                    3, Cluster, Schedule>;
  template <class Copy, class Shared>
  using Traits = cutlass::conv::collective::detail::Sm90ImplicitGemmTileTraits<Copy, Shared>;
  using Mainloop = Im2col<cutlass::conv::collective::CollectiveConv<
      Policy, Tile, Element, Element, typename Built::TiledMma,
      Traits<typename Built::GmemTiledCopyA, typename Built::SmemLayoutA>,
      Traits<typename Built::GmemTiledCopyB, typename Built::SmemLayoutB>>>;
  using Problem = typename Mainloop::Problem;

  static Problem problem(const Product& p) {
    using Extent = typename Problem::TensorExtent;
    using Space = typename Problem::SpatialExtent;
    const ConvWindow& w = p.window;
    const int in = kIsForward ? p.summed : p.columns, out = kIsForward ? p.columns : p.summed;
    constexpr auto kMode = cutlass::conv::Mode::kCrossCorrelation;
    if (w.pixel_major) {
      const Space reach{w.rate, w.rate, 0};
      return Problem(kMode, Extent{1, w.height, w.width, w.images, in}, Extent{out, 3, 3, 1, in}, reach,
                     reach, Space{1, 1, 1}, Space{w.rate, w.rate, 1}, 1);
    }
    const Space reach{0, w.rate, w.rate};
    return Problem(kMode, Extent{w.images, 1, w.height, w.width, in}, Extent{out, 1, 3, 3, in}, reach, reach,
                   Space{1, 1, 1}, Space{1, w.rate, w.rate}, 1);
  }

  static auto shape(const Problem& problem) {
    const auto [rows, columns, summed, batches] =
        cutlass::conv::detail::get_linearized_problem_shape_MNKL(problem);
    return cute::make_shape(int(rows), int(columns), summed, 1);
  }

  static void run(const Product& p) {
    typename Mainloop::Arguments mainloop{};
    mainloop.maps.ptr_A = static_cast<const Element*>(p.a);
    mainloop.maps.ptr_B = static_cast<const Element*>(p.weight);
    mainloop.problem = problem(p);
    launch<decltype(shape(mainloop.problem)), Mainloop, Epilogue>(p, shape(mainloop.problem), mainloop);
  }
};

}  // namespace deeplab_fast::gemm
