// Confusion matrix of label maps on the CPU: integers of any width, narrowed to bytes a chunk at a time.
#include "../core/confusion.h"

#include <algorithm>

#include "../api.h"
#include "byte_counter.h"

namespace deeplab_fast {
namespace {

constexpr int64_t kChunk = 4096;

int64_t value_at(const Integers& from, int64_t i) {
  switch (from.type) {
    case Integer::uint8:
      return static_cast<const uint8_t*>(from.data)[i];
    case Integer::int8:
      return static_cast<const int8_t*>(from.data)[i];
    case Integer::int16:
      return static_cast<const int16_t*>(from.data)[i];
    case Integer::int32:
      return static_cast<const int32_t*>(from.data)[i];
    case Integer::int64:
      return static_cast<const int64_t*>(from.data)[i];
  }
  return 0;
}

// Values [begin, begin + count) as bytes, or false where one is none.
template <typename T>
bool narrow(const void* data, int64_t begin, int64_t count, uint8_t* out) {
  const T* from = static_cast<const T*>(data) + begin;
  T outside = 0;
  for (int64_t i = 0; i < count; ++i) {
    out[i] = static_cast<uint8_t>(from[i]);
    outside |= static_cast<T>(from[i] & static_cast<T>(~T{255}));
  }
  return outside == 0;
}

template <>
bool narrow<int8_t>(const void* data, int64_t begin, int64_t count, uint8_t* out) {
  const int8_t* from = static_cast<const int8_t*>(data) + begin;
  int8_t sign = 0;
  for (int64_t i = 0; i < count; ++i) {
    out[i] = static_cast<uint8_t>(from[i]);
    sign |= from[i];
  }
  return sign >= 0;
}

bool as_bytes(const Integers& from, int64_t begin, int64_t count, uint8_t* buffer, const uint8_t** bytes) {
  *bytes = buffer;
  switch (from.type) {
    case Integer::uint8:
      *bytes = static_cast<const uint8_t*>(from.data) + begin;
      return true;
    case Integer::int8:
      return narrow<int8_t>(from.data, begin, count, buffer);
    case Integer::int16:
      return narrow<int16_t>(from.data, begin, count, buffer);
    case Integer::int32:
      return narrow<int32_t>(from.data, begin, count, buffer);
    case Integer::int64:
      return narrow<int64_t>(from.data, begin, count, buffer);
  }
  return false;
}

}  // namespace

OutOfRange count_pairs(const Integers& labels, const Integers& predictions, int64_t pixels, int classes,
                       int64_t ignore_label, int64_t* counts) {
  OutOfRange wrong;
  uint8_t label_buffer[kChunk], prediction_buffer[kChunk];
  ByteCounter counter(classes, ignore_label);
  for (int64_t begin = 0; begin < pixels; begin += kChunk) {
    const int64_t count = std::min(kChunk, pixels - begin);
    const uint8_t *l, *p;
    const bool bytes = as_bytes(labels, begin, count, label_buffer, &l) &
                       as_bytes(predictions, begin, count, prediction_buffer, &p);
    if (bytes && counter.add(l, p, count)) continue;
    // Something is out of range, or the ignore label is no byte: look at each value.
    for (int64_t i = begin; i < begin + count; ++i) {
      const int64_t label = value_at(labels, i), prediction = value_at(predictions, i);
      const int64_t cell = cell_of(label, prediction, classes, ignore_label);
      if (cell >= 0 && !bytes) ++counts[cell];
      if (cell < kIgnored && !wrong.found) {
        const bool in_labels = cell == kLabelOutOfRange;
        wrong = {true, in_labels, i, in_labels ? label : prediction};
      }
    }
  }
  counter.add_to(counts);
  return wrong;
}

}  // namespace deeplab_fast
