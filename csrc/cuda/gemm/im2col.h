// CUTLASS's collective for convolutions, as the persistent kernel for matrix products wants it. Included
// after epilogue.h: CUTLASS's headers of convolutions do not include all that they use.
#pragma once

#include <cutlass/conv/convolution.h>

#include <cutlass/conv/collective/collective_builder.hpp>
#include <cutlass/conv/convnd_problem_shape.hpp>
#include <cutlass/conv/detail.hpp>
#include <cutlass/conv/dispatch_policy.hpp>

namespace deeplab_fast::gemm {

// Base: CUTLASS's collective. Maps [rows, channels] are addressed by the row, as the kernel of a plain
// product does.
template <class Base>
struct Im2col : Base {
  using BaseCollective = Base;
  using Problem = typename Base::ProblemShape;
  using StrideA = cute::Stride<int64_t, cute::Int<1>, int64_t>;  // what the kernel is told; Base has its own
  using StrideB = StrideA;
  using TransformA = cute::identity;
  using TransformB = cute::identity;
  static constexpr uint32_t NumProducerThreadEvents = 1;

  struct Arguments {
    typename Base::Arguments maps;
    Problem problem;
  };

  template <class Shape>
  static typename Base::Params to_underlying_arguments(const Shape&, const Arguments& given,
                                                       void* workspace) {
    return Base::to_underlying_arguments(given.problem, given.maps, workspace);
  }
  template <class Shape>
  static bool can_implement(const Shape&, const Arguments& given) {
    return Base::can_implement(given.problem, given.maps);
  }

  // The kernel counts batches in a fifth mode.
  template <class Shape>
  CUTLASS_DEVICE auto load_init(const Shape& shape, const typename Base::Params& params) {
    const auto [a, b] = Base::load_init(shape, params);
    return cute::make_tuple(
        a, cute::make_tensor(b.data(), cute::append<5>(b.layout(), cute::Layout<cute::_1, cute::_0>{})));
  }
  template <class A, class B, class Coordinates, class Iterator>
  CUTLASS_DEVICE void load(const typename Base::Params& params, typename Base::MainloopPipeline pipeline,
                           typename Base::PipelineState state, const cute::tuple<A, B>& inputs,
                           const Coordinates& coordinates, Iterator taps, int count, int thread,
                           uint32_t rank, typename Base::TensorStorage& storage) {
    const auto [a, b] = inputs;
    const auto weights = cute::make_tensor(b.data(), cute::take<0, 4>(b.layout()));
    Base::load(params, pipeline, state, cute::make_tuple(a, weights), coordinates, taps, count, thread, rank,
               storage);
  }
};

}  // namespace deeplab_fast::gemm
