// Runs csrc/cuda/gemm/column_sums.h on the host, a thread of its own for each of the GPU's 128 that share a
// tile, and their shuffles by way of an array that all can see. tests/native/test_column_sums.py builds and
// calls it.
#include <pthread.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "../../csrc/cuda/gemm/column_sums.h"

using namespace deeplab_fast::gemm;

namespace {

constexpr int kThreads = 32 * kWarps;
pthread_barrier_t barrier;
float lanes[kThreads];
thread_local int self;

struct HostWarp {
  static float other(float value, int lane) {
    lanes[self] = value;
    pthread_barrier_wait(&barrier);
    const float found = lanes[self / 32 * 32 + lane];
    pthread_barrier_wait(&barrier);
    return found;
  }
  static float from(float value, int lane) { return other(value, lane); }
  static float exchange(float value, int mask) { return other(value, self % 32 ^ mask); }
};

template <class Body>
void in_every_thread(const Body& body) {
  pthread_barrier_init(&barrier, nullptr, kThreads);
  std::vector<std::thread> all;
  for (int t = 0; t < kThreads; ++t) {
    all.emplace_back([t, &body] {
      self = t;
      body(t);
    });
  }
  for (std::thread& one : all) one.join();
  pthread_barrier_destroy(&barrier);
}

// What thread `t` holds of a subtile of `x` [rows, 32]; rows beyond the map are `outside`.
void load(const float* x, int rows, int t, int subtile, float outside, float (&values)[kValues]) {
  for (int i = 0; i < kValues; ++i) {
    const int row = subtile * kSubtileRows + row_of(t, i);
    values[i] = row < rows ? x[row * kSubtileColumns + column_of(t, i)] : outside;
  }
}

}  // namespace

extern "C" {

// `x` [rows, 32], rows <= 64 * subtiles -> `out` [3, 32].
void moments(const float* x, int rows, int subtiles, float outside, float* out) {
  using Sums = Moments<HostWarp>;
  std::vector<float> shared(kWarps * Sums::kShared * kSubtileColumns);
  in_every_thread([&](int t) {
    Sums sums;
    for (int s = 0; s < subtiles; ++s) {
      float values[kValues];
      load(x, rows, t, s, outside, values);
      const int row = s * kSubtileRows + row_of(t, 0);
      sums.add(t, s == 0, {row < rows, row + 8 < rows}, values);
    }
    sums.share(t, shared.data() + t / 32 * Sums::kShared * kSubtileColumns);
  });
  for (int c = 0; c < kSubtileColumns; ++c) {
    const Moment found = Sums::merged(shared.data(), c, rows, subtiles);
    out[c] = found.count;
    out[kSubtileColumns + c] = found.mean;
    out[2 * kSubtileColumns + c] = found.m2;
  }
}

// `dz` and `deviation` [rows, 32] -> `out` [2, 32].
void gradient_sums(const float* dz, const float* deviation, int rows, int subtiles, float* out) {
  using Sums = GradientSums<HostWarp>;
  std::vector<float> shared(kWarps * Sums::kShared * kSubtileColumns);
  in_every_thread([&](int t) {
    Sums sums;
    for (int s = 0; s < subtiles; ++s) {
      float a[kValues], b[kValues];
      load(dz, rows, t, s, 0.0f, a);
      load(deviation, rows, t, s, -1.0f, b);
      sums.add(s == 0, a, b);
    }
    sums.share(t, shared.data() + t / 32 * Sums::kShared * kSubtileColumns);
  });
  for (int c = 0; c < kSubtileColumns; ++c) {
    out[c] = Sums::merged(shared.data(), c, 0);
    out[kSubtileColumns + c] = Sums::merged(shared.data(), c, 1);
  }
}

// Where value `i` of thread `t` lies: row * 32 + column.
int place(int t, int i) { return row_of(t, i) * kSubtileColumns + column_of(t, i); }
}
