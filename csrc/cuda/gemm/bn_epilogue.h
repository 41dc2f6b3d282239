// A node of CUTLASS's epilogue visitor tree for sm_90: BatchNorm's share of a matrix product of pixels.
//
//   Op::forward    D = acc                          and the moments of D, [tiles][3][N]: count, mean, M2
//   Op::backward   D = z > 0 ? acc : 0              and the sums of D and D * x-hat, [tiles][2][N]
//   Op::residual   D = act > 0 ? acc + residual : 0 and the same sums
//
// x-hat = (x - mean) / sqrt(variance + eps), z = x-hat * weight + bias; a tile is 128 rows. Sums are of what
// is stored, rounded. They go from registers by shuffles to shared memory and by plain stores to a workspace
// (column_sums.h): no atomics, and no barrier beside those that the collective has around its own TMA store.
#pragma once

#include <cutlass/cutlass.h>

#include <cutlass/epilogue/fusion/sm90_visitor_load_tma_warpspecialized.hpp>
#include <cutlass/epilogue/fusion/sm90_visitor_tma_warpspecialized.hpp>

#include "../../api.h"
#include "column_sums.h"

namespace deeplab_fast::gemm {

enum class Op { forward, backward, residual };

struct DeviceWarp {
  CUTLASS_DEVICE static float from(float value, int lane) { return __shfl_sync(0xffffffffu, value, lane); }
  CUTLASS_DEVICE static float exchange(float value, int mask) {
    return __shfl_xor_sync(0xffffffffu, value, mask);
  }
};

template <Op kOp, class Element>
struct BatchNormNode : cutlass::epilogue::fusion::Sm90VisitorImpl<> {
  using Sums = cute::conditional_t<kOp == Op::forward, Moments<DeviceWarp>, GradientSums<DeviceWarp>>;
  static constexpr int kBuffers = 2;  // one is read while the next subtile's is written
  static constexpr int kBuffer = kWarps * Sums::kShared * kSubtileColumns;
  struct SharedStorage {
    alignas(16) float values[kBuffers * kBuffer];
  };
  struct Arguments {
    NormInput norm;  // none of it forward
    float* parts = nullptr;
  };
  using Params = Arguments;

  template <class Problem>
  static constexpr Params to_underlying_arguments(const Problem&, const Arguments& given, void*) {
    return given;
  }
  template <class Problem>
  static bool can_implement(const Problem&, const Arguments&) {
    return true;
  }
  template <class Problem>
  static size_t get_workspace_size(const Problem&, const Arguments&) {
    return 0;
  }
  template <class Problem>
  static cutlass::Status initialize_workspace(const Problem&, const Arguments&, void*, cudaStream_t,
                                              cutlass::CudaHostAdapter* = nullptr) {
    return cutlass::Status::kSuccess;
  }

  CUTLASS_HOST_DEVICE BatchNormNode() {}
  CUTLASS_HOST_DEVICE BatchNormNode(const Params& given, const SharedStorage& storage)
      : params(&given), shared(const_cast<float*>(storage.values)) {}

  const Params* params;
  float* shared;

  template <int kSubtiles>
  struct Callbacks : cutlass::epilogue::fusion::EmptyConsumerStoreCallbacks {
    const Params* params;
    float* shared;
    int thread, tile, first, columns,
        rows;            // first: column of the tile; rows: of the tile within the map, 0: none
    int unwritten = -1;  // the subtile whose sums are shared and not yet in the workspace
    Sums sums;
    float mean[kOwnColumns], scale[kOwnColumns], bias[kOwnColumns];  // scale: weight / sqrt(variance + eps)

    CUTLASS_DEVICE Callbacks(const Params* params, float* shared, int thread, int tile, int first,
                             int columns, int rows)
        : params(params),
          shared(shared),
          thread(thread),
          tile(tile),
          first(first),
          columns(columns),
          rows(rows) {}

    CUTLASS_DEVICE void begin_loop(int subtile, int group) {
      if constexpr (kOp != Op::forward) {
        if (subtile != 0) return;
#pragma unroll
        for (int k = 0; k < kOwnColumns; ++k) {
          const int column = first + group * kSubtileColumns + column_of(thread, k / 2 * 4 + k % 2);
          const bool inside = column < columns;
          mean[k] = inside ? __ldg(params->norm.mean + column) : 0.0f;
          if constexpr (kOp == Op::backward) {
            const float variance = inside ? __ldg(params->norm.variance + column) : 0.0f;
            scale[k] =
                inside ? __ldg(params->norm.weight + column) * rsqrtf(variance + params->norm.eps) : 0.0f;
            bias[k] = inside ? __ldg(params->norm.bias + column) : 0.0f;
          }
        }
      }
    }

    template <class Accumulator, class... Inputs, int kSize>
    CUTLASS_DEVICE cutlass::Array<Element, kSize> visit(const cutlass::Array<Accumulator, kSize>&, int,
                                                        int subtile, int,
                                                        const cutlass::Array<float, kSize>& product,
                                                        const cutlass::Array<Inputs, kSize>&... inputs) {
      static_assert(kSize == kValues, "a fragment is what a thread holds of a subtile");
      float value[kValues], deviation[kValues];
#pragma unroll
      for (int i = 0; i < kValues; ++i) value[i] = product[i];
      if constexpr (kOp != Op::forward) {
        const auto all = cute::make_tuple(inputs...);
        const auto& x = cute::get<0>(all);
#pragma unroll
        for (int i = 0; i < kValues; ++i) {
          const int k = own_column(i);
          deviation[i] = static_cast<float>(x[i]) - mean[k];
          if constexpr (kOp == Op::backward) {
            if (!(deviation[i] * scale[k] + bias[k] > 0.0f)) value[i] = 0.0f;
          } else {
            const float added = value[i] + static_cast<float>(cute::get<1>(all)[i]);
            value[i] = static_cast<float>(cute::get<2>(all)[i]) > 0.0f ? added : 0.0f;
          }
        }
      }
      cutlass::Array<float, kSize> exact;
#pragma unroll
      for (int i = 0; i < kValues; ++i) exact[i] = value[i];
      const auto stored = cutlass::NumericArrayConverter<Element, float, kSize>{}(exact);
#pragma unroll
      for (int i = 0; i < kValues; ++i) value[i] = static_cast<float>(stored[i]);
      if constexpr (kOp == Op::forward) {
        const int row = subtile * kSubtileRows + row_of(thread, 0);
        sums.add(thread, subtile == 0, {row < rows, row + 8 < rows}, value);
      } else {
        sums.add(subtile == 0, value, deviation);
      }
      return stored;
    }

    template <class STensor, class Sync, class VTensor>
    CUTLASS_DEVICE void reduce(STensor&&, const Sync&, int subtile, int group, bool, const VTensor&) {
      if (subtile != kSubtiles - 1) return;
      sums.share(thread, shared + group % kBuffers * kBuffer + thread / 32 * Sums::kShared * kSubtileColumns);
    }

    // Between the two barriers of the collective's TMA store: from here on every warp sees what all have
    // shared.
    CUTLASS_DEVICE void tma_store(int subtile, int group, int, bool) {
      if (subtile == kSubtiles - 1) unwritten = group;
    }
    CUTLASS_DEVICE void end_loop(int, int) { write(); }
    CUTLASS_DEVICE void end() { write(); }

    // A warp writes 32 columns, another at each subtile.
    CUTLASS_DEVICE void write() {
      if (unwritten < 0) return;
      if (thread / 32 == unwritten % kWarps && rows > 0) {
        const int lane = thread % 32, column = first + unwritten * kSubtileColumns + lane;
        const float* buffer = shared + unwritten % kBuffers * kBuffer;
        if (column < columns) {
          if constexpr (kOp == Op::forward) {
            const Moment moment = Sums::merged(buffer, lane, rows, kSubtiles);
            float* part = params->parts + size_t(tile) * 3 * columns + column;
            part[0] = moment.count;
            part[columns] = moment.mean;
            part[2 * size_t(columns)] = moment.m2;
          } else {
            float* part = params->parts + size_t(tile) * 2 * columns + column;
            part[0] = Sums::merged(buffer, lane, 0);
            part[columns] = Sums::merged(buffer, lane, 1) *
                            rsqrtf(__ldg(params->norm.variance + column) + params->norm.eps);
          }
        }
      }
      unwritten = -1;
    }
  };

  template <bool ReferenceSrc, class... Args>
  CUTLASS_DEVICE auto get_consumer_store_callbacks(
      const cutlass::epilogue::fusion::ConsumerStoreArgs<Args...>& args) {
    static_assert(ReferenceSrc);
    constexpr int kTileRows = decltype(cute::size<0>(args.tile_shape_mnk))::value;
    constexpr int kTileColumns = decltype(cute::size<1>(args.tile_shape_mnk))::value;
    static_assert(decltype(cute::size<0>(args.epi_tile))::value == kSubtileRows);
    static_assert(decltype(cute::size<1>(args.epi_tile))::value == kSubtileColumns);
    static_assert(decltype(cute::size(args.tiled_mma))::value == kWarps * 32);
    const auto [rows, columns, k, l] = args.problem_shape_mnkl;
    const auto [m, n, tile_k, tile_l] = args.tile_coord_mnkl;
    const int first = int(n) * kTileColumns, left = int(rows) - int(m) * kTileRows;
    const bool inside = left > 0 && first < int(columns);  // the scheduler may give tiles beyond the edge
    return Callbacks<kTileRows / kSubtileRows>(params, shared, args.thread_idx, int(m),
                                               inside ? first : int(columns), int(columns),
                                               inside ? (left < kTileRows ? left : kTileRows) : 0);
  }
};

}  // namespace deeplab_fast::gemm
