// Upsampling, argmax and counting in one pass, with core/upsample.h's arithmetic in the order of
// cuda/confusion.cu: rows are interpolated first, then columns, each product and sum rounded as written.
#include <algorithm>

#include "../api.h"
#include "../core/confusion.h"
#include "byte_counter.h"
#include "lanes.h"
#include "parallel_for.h"
#include "upsample_strips.h"

namespace deeplab_fast {
namespace {

constexpr int kMostLanes = kAvx512Lanes;
constexpr int kBand = 8;  // output rows of a unit of work

// The largest class of each output of a row, whose source row [w, classes] is interpolated already.
template <int kLanes>
DEEPLAB_FAST_INLINE void row_argmax(const float* row, int classes, const std::vector<Strip>& strips,
                                    const float* shares, uint8_t* out) {
  using V = FloatLanes<kLanes>;
  using I = IntLanes<kLanes>;
  for (const Strip& strip : strips) {
    const float *left = row + static_cast<size_t>(strip.low) * classes,
                *right = row + static_cast<size_t>(strip.high) * classes;
    const V share = load<kLanes>(shares + strip.begin), rest = 1.0f - share;
    V largest = left[0] * rest + right[0] * share;  // lerp(), as below
    I best = {};
    for (int c = 1; c < classes; ++c) {
      const V value = left[c] * rest + right[c] * share;
      const I larger = value > largest;
      best = larger ? I{} + c : best;
      largest = larger ? value : largest;
    }
    // Lanes beyond the strip are written over by the next one, or lie in the buffer's padding.
    typedef uint8_t Narrow __attribute__((vector_size(kLanes)));
    const Narrow narrow = __builtin_convertvector(best, Narrow);
    std::memcpy(out + strip.begin, &narrow, sizeof narrow);
  }
}

template <int kLanes>
DEEPLAB_FAST_INLINE void lerp_rows(const float* top, const float* bottom, float t, size_t values,
                                   float* out) {
  using V = FloatLanes<kLanes>;
  size_t i = 0;
  for (; i + kLanes <= values; i += kLanes) {
    store<V>(load<kLanes>(top + i) * (1.0f - t) + load<kLanes>(bottom + i) * t, out + i);
  }
  for (; i < values; ++i) out[i] = lerp(top[i], bottom[i], t);
}

struct Columns {
  std::vector<Strip> strips;
  std::vector<float> shares;  // [W + kMostLanes]
};

// Source rows, [w, classes], and what becomes of them: [W + kMostLanes] classes.
struct RowTask {
  const float *top, *bottom;
  float t;
  int w, classes;
  float* between;  // [w, classes]
  uint8_t* out;
};

template <int kLanes>
DEEPLAB_FAST_INLINE void predict_row(const RowTask& task, const Columns& columns) {
  lerp_rows<kLanes>(task.top, task.bottom, task.t, static_cast<size_t>(task.w) * task.classes, task.between);
  row_argmax<kLanes>(task.between, task.classes, columns.strips, columns.shares.data(), task.out);
}

using Predict = void (*)(const RowTask&, const Columns&);

void generic(const RowTask& task, const Columns& columns) { predict_row<kGenericLanes>(task, columns); }

#ifdef DEEPLAB_FAST_X86
DEEPLAB_FAST_FOR_AVX2 void avx2(const RowTask& task, const Columns& columns) {
  predict_row<kAvx2Lanes>(task, columns);
}
template <int kLanes>
DEEPLAB_FAST_FOR_AVX512 void avx512(const RowTask& task, const Columns& columns) {
  predict_row<kLanes>(task, columns);
}
#endif

Predict predict_for(VectorLevel level, int lanes) {
#ifdef DEEPLAB_FAST_X86
  if (level == VectorLevel::avx2) return avx2;
  if (level == VectorLevel::avx512) {
    return lanes == kAvx512Lanes ? avx512<kAvx512Lanes> : avx512<kAvx512Lanes / 2>;
  }
#endif
  (void)level, (void)lanes;
  return generic;
}

std::vector<Between> outputs_of(int source, int target, bool align_corners) {
  const float step = upsample_step(source, target, align_corners);
  std::vector<Between> outputs;
  for (int i = 0; i < target; ++i) outputs.push_back(between(step, source, i, align_corners));
  return outputs;
}

// What a thread keeps between units.
struct Worker {
  Worker(const UpsampleShape& shape, int ignore_label)
      : row(static_cast<size_t>(shape.w) * shape.classes),
        predictions(static_cast<size_t>(kBand) * shape.width + kMostLanes),
        counter(shape.classes, ignore_label) {}

  std::vector<float> row;
  std::vector<uint8_t> predictions;
  ByteCounter counter;
  OutOfRange wrong;
};

}  // namespace

OutOfRange count_upsampled(const float* logits, const UpsampleShape& shape, const uint8_t* labels,
                           int ignore_label, int threads, int64_t* counts) {
  const std::vector<Between> rows = outputs_of(shape.h, shape.height, shape.align_corners),
                             outputs = outputs_of(shape.w, shape.width, shape.align_corners);
  Columns columns;
  const VectorLevel level = vector_level();
  const int lanes = lanes_for(outputs, level);
  columns.strips = strips_of(outputs, lanes);
  columns.shares.assign(outputs.size() + kMostLanes, 0.0f);
  for (size_t i = 0; i < outputs.size(); ++i) columns.shares[i] = outputs[i].t;

  const Predict predict = predict_for(level, lanes);
  const size_t row_values = static_cast<size_t>(shape.w) * shape.classes;
  const int64_t bands = (shape.height + kBand - 1) / kBand, units = bands * shape.count;
  std::vector<Worker> workers;
  for (int i = 0; i < workers_for(units, threads); ++i) {
    workers.emplace_back(shape, ignore_label);
  }
  parallel_for(units, threads, [&](int place, int64_t unit) {
    Worker& worker = workers[place];
    const int64_t image = unit / bands;
    const int begin = static_cast<int>(unit % bands) * kBand, end = std::min(begin + kBand, shape.height);
    const float* from = logits + image * shape.h * row_values;
    uint8_t* out = worker.predictions.data();
    for (int y = begin; y < end; ++y, out += shape.width) {
      const Between& at = rows[y];
      predict({from + at.low * row_values, from + at.high * row_values, at.t, shape.w, shape.classes,
               worker.row.data(), out},
              columns);
    }
    const int64_t first = (image * shape.height + begin) * shape.width,
                  pixels = static_cast<int64_t>(end - begin) * shape.width;
    if (worker.counter.add(labels + first, worker.predictions.data(), pixels)) return;
    for (int64_t i = first; i < first + pixels; ++i) {
      if (worker.wrong.found && worker.wrong.index <= i) break;
      if (labels[i] >= shape.classes && labels[i] != ignore_label) {
        worker.wrong = {true, true, i, labels[i]};
        break;
      }
    }
  });
  OutOfRange wrong;
  for (const Worker& worker : workers) {
    if (worker.wrong.found && (!wrong.found || worker.wrong.index < wrong.index)) wrong = worker.wrong;
    worker.counter.add_to(counts);
  }
  return wrong;
}

}  // namespace deeplab_fast
