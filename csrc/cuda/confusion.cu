// Confusion matrix of label maps on the GPU: a histogram in shared memory for each block, integer atomics,
// hence the same counts at every run.
#include "../core/confusion.h"
#include "check.h"

namespace deeplab_fast {
namespace {

constexpr int kThreads = 256;
constexpr int kPixels = 16;                // pairs that a thread counts in one go
constexpr size_t kSharedBytes = 48 << 10;  // what every GPU gives a block without asking

// A block's counts: in shared memory where a matrix fits there, else straight in the result.
struct Histogram {
  unsigned long long* counts;
  uint32_t* shared;  // may be null
  int cells;

  __device__ void clear() const {
    if (shared != nullptr) {
      for (int i = threadIdx.x; i < cells; i += kThreads) shared[i] = 0;
    }
    __syncthreads();
  }

  __device__ void add(int64_t cell, uint32_t pixels) const {
    if (shared != nullptr) {
      atomicAdd(shared + cell, pixels);
    } else {
      atomicAdd(counts + cell, static_cast<unsigned long long>(pixels));
    }
  }

  __device__ void flush() const {
    __syncthreads();
    if (shared == nullptr) return;
    for (int i = threadIdx.x; i < cells; i += kThreads) {
      if (shared[i] != 0) atomicAdd(counts + i, static_cast<unsigned long long>(shared[i]));
    }
  }
};

__device__ void note_wrong(unsigned long long* wrong, int64_t index) {
  atomicMin(wrong, static_cast<unsigned long long>(index));
}

template <typename L, typename P>
__global__ void pairs_kernel(const L* labels, const P* predictions, int64_t pixels, int classes,
                             int64_t ignore_label, unsigned long long* counts, unsigned long long* wrong,
                             bool use_shared) {
  extern __shared__ uint32_t memory[];
  const Histogram histogram{counts, use_shared ? memory : nullptr, classes * classes};
  histogram.clear();
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads * kPixels;
  for (int64_t begin = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kPixels; begin < pixels;
       begin += step) {
    const int64_t end = begin + kPixels < pixels ? begin + kPixels : pixels;
    int64_t current = kIgnored;
    uint32_t length = 0;  // of the run of pixels in `current`
    for (int64_t i = begin; i < end; ++i) {
      const int64_t cell = cell_of(labels[i], predictions[i], classes, ignore_label);
      if (cell < kIgnored) note_wrong(wrong, i);
      if (cell != current) {
        if (current >= 0) histogram.add(current, length);
        current = cell;
        length = 0;
      }
      ++length;
    }
    if (current >= 0) histogram.add(current, length);
  }
  histogram.flush();
}

struct Launch {
  int blocks;
  size_t shared;
};

Launch plan(int64_t threads, int classes) {
  int device = 0, multiprocessors = 1;
  check(cudaGetDevice(&device), "confusion");
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device), "confusion");
  const int64_t wanted = (threads + kThreads - 1) / kThreads,
                most = 8 * static_cast<int64_t>(multiprocessors);
  const size_t bytes = sizeof(uint32_t) * classes * classes;
  return {static_cast<int>(wanted < most ? wanted : most), bytes <= kSharedBytes ? bytes : 0};
}

// Calls `use` with a null pointer of the integer type.
template <typename Use>
void with_type(Integer type, Use use) {
  switch (type) {
    case Integer::uint8:
      return use(static_cast<const uint8_t*>(nullptr));
    case Integer::int8:
      return use(static_cast<const int8_t*>(nullptr));
    case Integer::int16:
      return use(static_cast<const int16_t*>(nullptr));
    case Integer::int32:
      return use(static_cast<const int32_t*>(nullptr));
    case Integer::int64:
      return use(static_cast<const int64_t*>(nullptr));
  }
}

}  // namespace

void count_pairs_cuda(const Integers& labels, const Integers& predictions, int64_t pixels, int classes,
                      int64_t ignore_label, int64_t* counts, uint64_t* wrong, void* stream) {
  if (pixels == 0) return;
  const Launch launch = plan((pixels + kPixels - 1) / kPixels, classes);
  with_type(labels.type, [&](auto l) {
    with_type(predictions.type, [&](auto p) {
      pairs_kernel<<<launch.blocks, kThreads, launch.shared, static_cast<cudaStream_t>(stream)>>>(
          static_cast<decltype(l)>(labels.data), static_cast<decltype(p)>(predictions.data), pixels, classes,
          ignore_label, reinterpret_cast<unsigned long long*>(counts),
          reinterpret_cast<unsigned long long*>(wrong), launch.shared > 0);
    });
  });
  check(cudaGetLastError(), "count");
}

}  // namespace deeplab_fast
