// What the epilogue of a matrix product adds up, column by column over the rows of its tile, for a BatchNorm.
//
// The rows are pixels, the columns channels. A subtile is 64 rows by 32 columns, held by four warps as wgmma
// leaves it (row_of, column_of). A thread adds up its own rows, the eight lanes that hold the same columns
// add theirs by shuffles, and the four warps meet in shared memory: always in the same order, without
// atomics.
//
// `Warp` has the two shuffles, so that a test runs the same code on the host, a thread of its own for each of
// the GPU's.
#pragma once

#ifdef __CUDACC__
#define DEEPLAB_FAST_DEVICE __device__ __forceinline__
#else
#define DEEPLAB_FAST_DEVICE inline
#endif

namespace deeplab_fast::gemm {

constexpr int kSubtileRows = 64, kSubtileColumns = 32, kWarps = 4;
constexpr int kValues = kSubtileRows * kSubtileColumns / (32 * kWarps);  // of a thread, in a subtile: 16
constexpr int kOwnColumns = kValues / 2;  // of a thread: 8, in pairs of neighbours

// Where value i of a thread lies in the subtile.
constexpr int row_of(int thread, int i) { return 16 * (thread / 32) + thread % 32 / 4 + 8 * (i / 2 % 2); }
constexpr int column_of(int thread, int i) { return 8 * (i / 4) + 2 * (thread % 4) + i % 2; }
// Which of the thread's columns value i is of.
constexpr int own_column(int i) { return i / 4 * 2 + i % 2; }

// Adds `a`, and `b`, of the eight lanes with the same columns. Lane bit 4 gets the totals of `b` (else `a`),
// bits 3 and 2 choose the pair of columns, 8 * pair_of(thread) + 2 * (thread % 4).
template <class Warp>
DEEPLAB_FAST_DEVICE void add_lanes(int thread, const float (&a)[kOwnColumns], const float (&b)[kOwnColumns],
                                   float (&total)[2]) {
  const bool second = thread & 16, high = thread & 8, odd = thread & 4;
  float v[8], w[4];
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] = (second ? b[i] : a[i]) + Warp::exchange(second ? a[i] : b[i], 16);
#pragma unroll
  for (int i = 0; i < 4; ++i) w[i] = (high ? v[4 + i] : v[i]) + Warp::exchange(high ? v[i] : v[4 + i], 8);
#pragma unroll
  for (int i = 0; i < 2; ++i) total[i] = (odd ? w[2 + i] : w[i]) + Warp::exchange(odd ? w[i] : w[2 + i], 4);
}
DEEPLAB_FAST_DEVICE int first_column(int thread) { return 8 * (thread / 4 % 4) + 2 * (thread % 4); }

struct Moment {
  float count, mean, m2;
};

// Count, mean and M2 (the sum of squared deviations) of what is stored. A warp's values are taken relative to
// its first row's, so that a large mean leaves their deviations their digits: M2 about that pivot is at most
// rows times too large, in the worst case, before the difference is taken off.
template <class Warp>
struct Moments {
  static constexpr int kShared = 3;  // pivot, sum, sum of squares: [kShared][kSubtileColumns] of a warp
  float pivot[kOwnColumns], sum[kOwnColumns], square[kOwnColumns];

  // `valid`: whether the thread's upper and its lower row are within the map.
  DEEPLAB_FAST_DEVICE void add(int thread, bool is_first, const bool (&valid)[2], const float (&x)[kValues]) {
    if (is_first) {
#pragma unroll
      for (int k = 0; k < kOwnColumns; ++k) {
        pivot[k] = Warp::from(x[k / 2 * 4 + k % 2], thread % 4);
        sum[k] = square[k] = 0.0f;
      }
    }
#pragma unroll
    for (int i = 0; i < kValues; ++i) {
      const int k = own_column(i);
      const float deviation = valid[i / 2 % 2] ? x[i] - pivot[k] : 0.0f;
      sum[k] += deviation;
      square[k] += deviation * deviation;
    }
  }

  DEEPLAB_FAST_DEVICE void share(int thread, float* shared) const {
    float total[2];
    add_lanes<Warp>(thread, sum, square, total);
    float* row = shared + (thread & 16 ? 2 : 1) * kSubtileColumns + first_column(thread);
    row[0] = total[0];
    row[1] = total[1];
    if (thread % 32 < 4) {
#pragma unroll
      for (int k = 0; k < kOwnColumns; ++k) shared[column_of(thread, k / 2 * 4 + k % 2)] = pivot[k];
    }
  }

  // Of one column, from what the four warps shared; `rows`: of the tile that are within the map.
  DEEPLAB_FAST_DEVICE static Moment merged(const float* shared, int column, int rows, int subtiles) {
    Moment all{0.0f, 0.0f, 0.0f};
    for (int warp = 0; warp < kWarps; ++warp) {
      int own = 0;
      for (int s = 0; s < subtiles; ++s) {
        const int left = rows - s * kSubtileRows - 16 * warp;
        own += left < 0 ? 0 : left > 16 ? 16 : left;
      }
      if (own == 0) break;  // the warps below have none either: the first strip ends before theirs begin
      const float* of_warp = shared + warp * kShared * kSubtileColumns + column;
      const float count = static_cast<float>(own), offset = of_warp[kSubtileColumns] / count;
      const float mean = of_warp[0] - shared[column] + offset, deviation = mean - all.mean;
      const float m2 = of_warp[2 * kSubtileColumns] - offset * of_warp[kSubtileColumns];
      const float total = all.count + count;
      all.m2 += (m2 > 0.0f ? m2 : 0.0f) + deviation * deviation * (all.count * count / total);
      all.mean += deviation * (count / total);
      all.count = total;
    }
    all.mean += shared[column];  // until here relative to the first warp's pivot
    return all;
  }
};

// The two sums that a BatchNorm's gradient needs: of dz, and of dz times the deviation of its input from the
// mean. Rows beyond the map have a dz of 0.
template <class Warp>
struct GradientSums {
  static constexpr int kShared = 2;
  float sum[kOwnColumns], dot[kOwnColumns];

  DEEPLAB_FAST_DEVICE void add(bool is_first, const float (&dz)[kValues], const float (&deviation)[kValues]) {
    if (is_first) {
#pragma unroll
      for (int k = 0; k < kOwnColumns; ++k) sum[k] = dot[k] = 0.0f;
    }
#pragma unroll
    for (int i = 0; i < kValues; ++i) {
      const int k = own_column(i);
      sum[k] += dz[i];
      dot[k] += dz[i] * deviation[i];
    }
  }

  DEEPLAB_FAST_DEVICE void share(int thread, float* shared) const {
    float total[2];
    add_lanes<Warp>(thread, sum, dot, total);
    float* row = shared + (thread & 16 ? 1 : 0) * kSubtileColumns + first_column(thread);
    row[0] = total[0];
    row[1] = total[1];
  }

  // Of one column: sum (which = 0) or dot (1), from what the four warps shared.
  DEEPLAB_FAST_DEVICE static float merged(const float* shared, int column, int which) {
    float total = 0.0f;
    for (int warp = 0; warp < kWarps; ++warp)
      total += shared[(warp * kShared + which) * kSubtileColumns + column];
    return total;
  }
};

}  // namespace deeplab_fast::gemm
