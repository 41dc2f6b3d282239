// What the tensor memory accelerator is told by the 3x3 convolutions of csrc/cuda/gemm: the coordinates of
// each tile, as the kernels compute them. No kernel is compiled, and no GPU asked.
#include "../../csrc/cuda/gemm/conv3x3.h"

namespace gemm = deeplab_fast::gemm;

namespace {

template <gemm::Op kOp>
struct Told {
  using Conv = gemm::Conv3x3<kOp, cutlass::bfloat16_t, 128>;

  static void sizes(const gemm::Product& p, int* out) {
    const auto [a, b] = tiles(p);
    out[0] = cute::size<2>(a);
    out[1] = cute::size<2>(b);
    out[2] = cute::size<3>(a);
    const auto problem = Conv::problem(p);
    const auto lower = cutlass::conv::collective::detail::compute_lower_corner_whd(problem);
    const auto upper = cutlass::conv::collective::detail::compute_upper_corner_whd(problem);
    for (int i = 0; i < 3; ++i) {
      out[3 + i] = lower[i];
      out[6 + i] = upper[i];
      out[9 + i] = problem.shape_A[3 - i];  // w, h, d
    }
    out[12] = problem.shape_A[0];
  }

  // c, w, h, d, n, s, r, t of the rows and channel, s, r, t of the weights.
  static void coordinates(const gemm::Product& p, int m, int n, int k, int* out) {
    const auto [a, b] = tiles(p);
    const auto tap = cute::idx2crd(k, cute::shape<3>(a));
    write(a(0, 0, m, tap), out);
    write(b(0, 0, n, tap), out + 8);
  }

 private:
  static auto tiles(const gemm::Product& p) {
    using Base = typename Conv::Mainloop::BaseCollective;
    const auto problem = Conv::problem(p);
    const auto params = Base::to_underlying_arguments(problem, {}, nullptr);
    const auto [rows, columns, summed, batches] = Conv::shape(problem);
    const auto a = params.tma_load_a.get_tma_tensor(cute::make_shape(rows, summed));
    const auto b = params.tma_load_b.get_tma_tensor(cute::make_shape(columns, summed));
    const auto all = cute::make_coord(cute::_, cute::_, cute::_);
    using One = cute::_1;
    return cute::make_tuple(
        cute::local_tile(a, typename Conv::Tile{}, all, cute::Step<One, cute::Underscore, One>{}),
        cute::local_tile(b, typename Conv::Tile{}, all, cute::Step<cute::Underscore, One, One>{}));
  }

  template <class Coordinates>
  static void write(const Coordinates& coordinates, int* out) {
    int i = 0;
    cute::for_each(cute::flatten(coordinates), [&](auto one) { out[i++] = int(one); });
  }
};

gemm::Product product(const int* given) {  // images, height, width, rate, pixel-major, columns, summed
  gemm::Product p{given[0] * given[1] * given[2], given[5], given[6], nullptr, nullptr, nullptr, nullptr};
  p.window = {given[0], given[1], given[2], given[3], given[4] != 0};
  return p;
}

}  // namespace

extern "C" void sizes(int is_forward, const int* given, int* out) {
  is_forward ? Told<gemm::Op::forward>::sizes(product(given), out)
             : Told<gemm::Op::backward>::sizes(product(given), out);
}

extern "C" void coordinates(int is_forward, const int* given, int m, int n, int k, int* out) {
  is_forward ? Told<gemm::Op::forward>::coordinates(product(given), m, n, k, out)
             : Told<gemm::Op::backward>::coordinates(product(given), m, n, k, out);
}
