// Confusion matrix on the GPU: a histogram in shared memory for each block, integer atomics, hence the
// same counts at every run. From label maps, or straight from low-resolution logits.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "../core/confusion.h"
#include "../core/upsample.h"
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

__device__ float as_float(float value) { return value; }
__device__ float as_float(__half value) { return __half2float(value); }
__device__ float as_float(__nv_bfloat16 value) { return __bfloat162float(value); }

struct Upsampling {
  int count, h, w, classes, height, width;
  bool align_corners;
  int64_t strides[4];  // of n, h, w, class
};

// Threads walk over the pixels of the batch; a warp's equal cells are added once.
template <typename T>
__global__ void upsampled_kernel(const T* logits, Upsampling shape, const uint8_t* labels, int ignore_label,
                                 unsigned long long* counts, unsigned long long* wrong, bool use_shared) {
  extern __shared__ uint32_t memory[];
  const Histogram histogram{counts, use_shared ? memory : nullptr, shape.classes * shape.classes};
  histogram.clear();
  const float step_y = upsample_step(shape.h, shape.height, shape.align_corners);
  const float step_x = upsample_step(shape.w, shape.width, shape.align_corners);
  const int64_t image = static_cast<int64_t>(shape.height) * shape.width, pixels = image * shape.count;
  const int64_t padded = (pixels + 31) / 32 * 32;  // whole warps stay together
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < padded;
       i += static_cast<int64_t>(gridDim.x) * kThreads) {
    int64_t cell = kIgnored;
    if (i < pixels && labels[i] != ignore_label) {
      const int64_t n = i / image, place = i % image;
      const Between row =
          between(step_y, shape.h, static_cast<int>(place / shape.width), shape.align_corners);
      const Between column =
          between(step_x, shape.w, static_cast<int>(place % shape.width), shape.align_corners);
      const T* from = logits + n * shape.strides[0];
      const T* corner[4] = {from + row.low * shape.strides[1] + column.low * shape.strides[2],
                            from + row.high * shape.strides[1] + column.low * shape.strides[2],
                            from + row.low * shape.strides[1] + column.high * shape.strides[2],
                            from + row.high * shape.strides[1] + column.high * shape.strides[2]};
      int best = 0;
      float largest = 0.0f;
      for (int c = 0; c < shape.classes; ++c) {
        const int64_t at = c * shape.strides[3];
        const float left = lerp(as_float(corner[0][at]), as_float(corner[1][at]), row.t);
        const float right = lerp(as_float(corner[2][at]), as_float(corner[3][at]), row.t);
        const float value = lerp(left, right, column.t);
        if (c == 0 || value > largest) {
          largest = value;
          best = c;
        }
      }
      cell = cell_of(labels[i], best, shape.classes, ignore_label);
      if (cell < kIgnored) note_wrong(wrong, i);
    }
    const unsigned same = __match_any_sync(0xFFFFFFFFu, static_cast<long long>(cell));
    const int lane = threadIdx.x % 32;
    if (cell >= 0 && lane == __ffs(static_cast<int>(same)) - 1) {
      histogram.add(cell, static_cast<uint32_t>(__popc(same)));
    }
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

template <typename T>
void launch_upsampled(const void* logits, const Upsampling& shape, const uint8_t* labels, int ignore_label,
                      int64_t* counts, uint64_t* wrong, cudaStream_t stream) {
  const Launch launch = plan(static_cast<int64_t>(shape.count) * shape.height * shape.width, shape.classes);
  upsampled_kernel<T><<<launch.blocks, kThreads, launch.shared, stream>>>(
      static_cast<const T*>(logits), shape, labels, ignore_label,
      reinterpret_cast<unsigned long long*>(counts), reinterpret_cast<unsigned long long*>(wrong),
      launch.shared > 0);
  check(cudaGetLastError(), "upsample and count");
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

void count_upsampled_cuda(const void* logits, Element type, const int64_t strides[4], int count, int h, int w,
                          int classes, const uint8_t* labels, int height, int width, bool align_corners,
                          int ignore_label, int64_t* counts, uint64_t* wrong, void* stream) {
  if (count == 0) return;
  const Upsampling shape{
      count, h, w, classes, height, width, align_corners, {strides[0], strides[1], strides[2], strides[3]}};
  const auto run = [&](auto launcher) {
    launcher(logits, shape, labels, ignore_label, counts, wrong, static_cast<cudaStream_t>(stream));
  };
  switch (type) {
    case Element::float16:
      return run(launch_upsampled<__half>);
    case Element::bfloat16:
      return run(launch_upsampled<__nv_bfloat16>);
    case Element::float32:
      return run(launch_upsampled<float>);
    case Element::uint8:
      throw DeviceError("logits are uint8; expected a floating type");
  }
}

}  // namespace deeplab_fast
