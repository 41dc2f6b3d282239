// From low-resolution scores to the class of each pixel of an image at its own size: scores are upsampled to
// a view's padded square, softmax, the part that is image resized to the target, views summed, the largest
// taken. A thread keeps two rows of probabilities of each view; nothing larger than a row is ever stored.
#include <algorithm>

#include "../api.h"
#include "lanes.h"
#include "parallel_for.h"
#include "upsample_strips.h"

namespace deeplab_fast {
namespace {

constexpr int kMostLanes = kAvx512Lanes;
constexpr int kBand = 16;  // target rows of a unit of work

// An axis of a view's square: where its outputs lie between the scores.
struct Axis {
  std::vector<Between> outputs;
  std::vector<Strip> strips;
  std::vector<float> shares;  // [outputs + kMostLanes]
};

Axis axis_of(int source, int size, bool align_corners, VectorLevel level) {
  Axis axis;
  const float step = upsample_step(source, size, align_corners);
  for (int i = 0; i < size; ++i) axis.outputs.push_back(between(step, source, i, align_corners));
  axis.strips = strips_of(axis.outputs, lanes_for(axis.outputs, level));
  axis.shares.assign(size + kMostLanes, 0.0f);
  for (int i = 0; i < size; ++i) axis.shares[i] = axis.outputs[i].t;
  return axis;
}

// A row of the square: probabilities [classes, stride] of its first `width` pixels, from two rows of scores
// [w, classes].
struct SoftmaxTask {
  const float *top, *bottom;
  float t;
  int w, classes, width, stride;
  float* between;  // [w, classes]
  float* lanes;    // [classes, kMostLanes]
  float* out;
};

template <int kLanes, bool kFused>
DEEPLAB_FAST_INLINE void softmax_row(const SoftmaxTask& task, const Axis& columns) {
  using V = FloatLanes<kLanes>;
  const int classes = task.classes;
  for (int i = 0; i < task.w * classes; ++i) task.between[i] = lerp(task.top[i], task.bottom[i], task.t);
  for (const Strip& strip : columns.strips) {
    if (strip.begin >= task.width) break;
    const float *left = task.between + static_cast<size_t>(strip.low) * classes,
                *right = task.between + static_cast<size_t>(strip.high) * classes;
    const V share = load<kLanes>(columns.shares.data() + strip.begin), rest = 1.0f - share;
    V largest = left[0] * rest + right[0] * share;
    store(largest, task.lanes);
    for (int c = 1; c < classes; ++c) {
      const V value = left[c] * rest + right[c] * share;
      store(value, task.lanes + c * kMostLanes);
      largest = larger(value, largest);
    }
    V sum = {};
    for (int c = 0; c < classes; ++c) {
      const V e = exp_of<kFused>(V(load<kLanes>(task.lanes + c * kMostLanes) - largest));
      store(e, task.lanes + c * kMostLanes);
      sum += e;
    }
    // Lanes beyond the strip are written over by the next one, or lie in the row's padding.
    const V factor = 1.0f / sum;
    for (int c = 0; c < classes; ++c) {
      store(V(load<kLanes>(task.lanes + c * kMostLanes) * factor), task.out + c * task.stride + strip.begin);
    }
  }
}

// A row of the target from two rows of probabilities, added to sums [classes, width].
struct ResizeTask {
  const float *top, *bottom;
  float t;
  int classes, source, stride, width;
  const int *low, *high;  // [width]
  const float* shares;    // [width]
  float* between;         // [stride]
  float* sums;
  bool first;
};

DEEPLAB_FAST_INLINE void resize_row(const ResizeTask& task) {
  for (int c = 0; c < task.classes; ++c) {
    const float *top = task.top + c * task.stride, *bottom = task.bottom + c * task.stride;
    float *row = task.between, *sums = task.sums + c * task.width;
    const float t = task.t, rest = 1.0f - t;
    for (int x = 0; x < task.source; ++x) row[x] = top[x] * rest + bottom[x] * t;
    const int *low = task.low, *high = task.high;
    const float* shares = task.shares;
    if (task.first) {
      for (int x = 0; x < task.width; ++x) {
        sums[x] = row[low[x]] * (1.0f - shares[x]) + row[high[x]] * shares[x];
      }
    } else {
      for (int x = 0; x < task.width; ++x) {
        sums[x] += row[low[x]] * (1.0f - shares[x]) + row[high[x]] * shares[x];
      }
    }
  }
}

// The first largest of sums [classes, width].
DEEPLAB_FAST_INLINE void row_argmax(const float* sums, int classes, int width, float* largest, int* best,
                                    uint8_t* out) {
  std::copy(sums, sums + width, largest);
  std::fill(best, best + width, 0);
  for (int c = 1; c < classes; ++c) {
    const float* row = sums + c * width;
    for (int x = 0; x < width; ++x) {
      best[x] = row[x] > largest[x] ? c : best[x];
      largest[x] = row[x] > largest[x] ? row[x] : largest[x];
    }
  }
  for (int x = 0; x < width; ++x) out[x] = static_cast<uint8_t>(best[x]);
}

// The three for one instruction set.
struct Kernels {
  void (*softmax)(const SoftmaxTask&, const Axis&);
  void (*resize)(const ResizeTask&);
  void (*argmax)(const float*, int, int, float*, int*, uint8_t*);
};

void softmax_generic(const SoftmaxTask& task, const Axis& columns) {
  softmax_row<kGenericLanes, kGenericFused>(task, columns);
}
void resize_generic(const ResizeTask& task) { resize_row(task); }
void argmax_generic(const float* sums, int classes, int width, float* largest, int* best, uint8_t* out) {
  row_argmax(sums, classes, width, largest, best, out);
}

#ifdef DEEPLAB_FAST_X86
DEEPLAB_FAST_FOR_AVX2 void softmax_avx2(const SoftmaxTask& task, const Axis& columns) {
  softmax_row<kAvx2Lanes, true>(task, columns);
}
DEEPLAB_FAST_FOR_AVX2 void resize_avx2(const ResizeTask& task) { resize_row(task); }
DEEPLAB_FAST_FOR_AVX2 void argmax_avx2(const float* sums, int classes, int width, float* largest, int* best,
                                       uint8_t* out) {
  row_argmax(sums, classes, width, largest, best, out);
}
template <int kLanes>
DEEPLAB_FAST_FOR_AVX512 void softmax_avx512(const SoftmaxTask& task, const Axis& columns) {
  softmax_row<kLanes, true>(task, columns);
}
DEEPLAB_FAST_FOR_AVX512 void resize_avx512(const ResizeTask& task) { resize_row(task); }
DEEPLAB_FAST_FOR_AVX512 void argmax_avx512(const float* sums, int classes, int width, float* largest,
                                           int* best, uint8_t* out) {
  row_argmax(sums, classes, width, largest, best, out);
}
#endif

Kernels kernels_for(VectorLevel level, int lanes) {
#ifdef DEEPLAB_FAST_X86
  if (level == VectorLevel::avx2) return {softmax_avx2, resize_avx2, argmax_avx2};
  if (level == VectorLevel::avx512) {
    return {lanes == kAvx512Lanes ? softmax_avx512<kAvx512Lanes> : softmax_avx512<kAvx512Lanes / 2>,
            resize_avx512, argmax_avx512};
  }
#endif
  (void)level, (void)lanes;
  return {softmax_generic, resize_generic, argmax_generic};
}

// A view, and what all its images share.
struct Square {
  const ScoresView* view;
  Axis rows, columns;
  Kernels kernels;
  int stride;  // of a class in a row of probabilities
};

// What a thread keeps of a view: the rows of probabilities that it made last.
struct RowCache {
  int64_t image = -1;
  int rows[2] = {-1, -1};
  std::vector<float> values[2];
};

struct Worker {
  std::vector<RowCache> caches;
  std::vector<float> scores, lanes, between, sums, largest, shares;
  std::vector<int> best, low, high;
};

// The row of probabilities `y` of a view of an image, made where it is not at hand; `keep` is needed still.
const float* probabilities(const Square& square, Worker& worker, RowCache& cache, int64_t image, int width,
                           int classes, int y, int keep) {
  if (cache.image != image) {
    cache.image = image;
    cache.rows[0] = cache.rows[1] = -1;
  }
  for (int i = 0; i < 2; ++i) {
    if (cache.rows[i] == y) return cache.values[i].data();
  }
  const int slot = cache.rows[0] == keep ? 1 : 0;
  const ScoresView& view = *square.view;
  const size_t row_values = static_cast<size_t>(view.w) * classes;
  const float* from = view.scores + static_cast<size_t>(image) * view.h * row_values;
  const Between& at = square.rows.outputs[y];
  cache.values[slot].resize(static_cast<size_t>(square.stride) * classes);
  square.kernels.softmax(
      {from + at.low * row_values, from + at.high * row_values, at.t, view.w, classes, width, square.stride,
       worker.scores.data(), worker.lanes.data(), cache.values[slot].data()},
      square.columns);
  cache.rows[slot] = y;
  return cache.values[slot].data();
}

}  // namespace

void upsample_argmax(const std::vector<ScoresView>& views, int classes, const std::vector<PixelSize>& targets,
                     bool align_corners, int threads, uint8_t* out) {
  const VectorLevel level = vector_level();
  std::vector<Square> squares;
  int longest = 0, most_scores = 0;
  for (const ScoresView& view : views) {
    Square square{&view,
                  axis_of(view.h, view.size, align_corners, level),
                  axis_of(view.w, view.size, align_corners, level),
                  {},
                  view.size + kMostLanes};
    square.kernels = kernels_for(level, lanes_for(square.columns.outputs, level));
    longest = std::max(longest, square.stride);
    most_scores = std::max(most_scores, view.w * classes);
    squares.push_back(std::move(square));
  }
  struct Unit {
    int64_t image, first;  // pixel of the image's first in `out`
    int begin, end;
  };
  std::vector<Unit> units;
  int64_t pixels = 0;
  int widest = 0;
  for (size_t i = 0; i < targets.size(); ++i) {
    for (int y = 0; y < targets[i].height; y += kBand) {
      units.push_back({static_cast<int64_t>(i), pixels, y, std::min(y + kBand, targets[i].height)});
    }
    pixels += static_cast<int64_t>(targets[i].height) * targets[i].width;
    widest = std::max(widest, targets[i].width);
  }
  const int64_t count = static_cast<int64_t>(units.size());
  std::vector<Worker> workers(workers_for(count, threads));
  for (Worker& worker : workers) {
    worker.caches.resize(views.size());
    worker.scores.resize(most_scores);
    worker.lanes.resize(static_cast<size_t>(classes) * kMostLanes);
    worker.between.resize(longest);
    worker.sums.resize(static_cast<size_t>(classes) * widest);
    for (auto* values : {&worker.largest, &worker.shares}) values->resize(widest);
    for (auto* values : {&worker.best, &worker.low, &worker.high}) values->resize(widest);
  }
  parallel_for(count, threads, [&](int place, int64_t number) {
    Worker& worker = workers[place];
    const Unit& unit = units[number];
    const PixelSize target = targets[unit.image];
    for (int y = unit.begin; y < unit.end; ++y) {
      for (size_t v = 0; v < squares.size(); ++v) {
        const Square& square = squares[v];
        const PixelSize extent = square.view->extents[unit.image];
        const float across = upsample_step(extent.width, target.width, false);
        for (int x = 0; x < target.width; ++x) {
          const Between at = between(across, extent.width, x, false);
          worker.low[x] = at.low, worker.high[x] = at.high, worker.shares[x] = at.t;
        }
        const Between at =
            between(upsample_step(extent.height, target.height, false), extent.height, y, false);
        RowCache& cache = worker.caches[v];
        const float* top =
            probabilities(square, worker, cache, unit.image, extent.width, classes, at.low, at.high);
        const float* bottom =
            probabilities(square, worker, cache, unit.image, extent.width, classes, at.high, at.low);
        square.kernels.resize({top, bottom, at.t, classes, extent.width, square.stride, target.width,
                               worker.low.data(), worker.high.data(), worker.shares.data(),
                               worker.between.data(), worker.sums.data(), v == 0});
      }
      squares[0].kernels.argmax(worker.sums.data(), classes, target.width, worker.largest.data(),
                                worker.best.data(),
                                out + unit.first + static_cast<int64_t>(y) * target.width);
    }
  });
}

}  // namespace deeplab_fast
