// The confusion matrix on any labels and predictions: as many pairs as a plain loop counts, and the same
// first one out of range.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "api.h"
#include "bounded.h"

namespace {

using deeplab_fast::Integer;
using deeplab_fast::Integers;

constexpr size_t kHeader = 12;
constexpr size_t kWidths[] = {1, 1, 2, 4, 8};

int64_t value_at(const Integers& from, size_t i) {
  const auto* bytes = static_cast<const uint8_t*>(from.data) + i * kWidths[static_cast<int>(from.type)];
  const auto as = [&](auto value) {
    std::memcpy(&value, bytes, sizeof value);
    return static_cast<int64_t>(value);
  };
  switch (from.type) {
    case Integer::uint8:
      return as(uint8_t{});
    case Integer::int8:
      return as(int8_t{});
    case Integer::int16:
      return as(int16_t{});
    case Integer::int32:
      return as(int32_t{});
    case Integer::int64:
      return as(int64_t{});
  }
  return 0;
}

}  // namespace

// Bytes: the two types, the classes, which instructions, the ignore label (8), then the values of both.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  using namespace deeplab_fast;
  const Bounded bounded(2.0, 16);
  if (bytes < kHeader) return 0;
  const auto label_type = static_cast<Integer>(data[0] % 5), class_type = static_cast<Integer>(data[1] % 5);
  const int classes = 1 + data[2];
  const char* const levels[] = {"generic", "AVX2", "AVX-512", ""};
  limit_vector_extension(levels[data[3] % 4]);
  int64_t ignore = 0;
  std::memcpy(&ignore, data + 4, sizeof ignore);
  const size_t widths[] = {kWidths[static_cast<int>(label_type)], kWidths[static_cast<int>(class_type)]};
  const size_t pixels = (bytes - kHeader) / (widths[0] + widths[1]);
  // Copies of exactly the size, aligned as their type: what is read beyond them is reported.
  std::vector<uint8_t> labels(data + kHeader, data + kHeader + pixels * widths[0]);
  std::vector<uint8_t> predictions(data + kHeader + labels.size(),
                                   data + kHeader + labels.size() + pixels * widths[1]);
  const Integers l{labels.data(), label_type}, p{predictions.data(), class_type};
  std::vector<int64_t> counts(static_cast<size_t>(classes) * classes), expected(counts.size());
  const OutOfRange found = count_pairs(l, p, static_cast<int64_t>(pixels), classes, ignore, counts.data());
  OutOfRange first;
  for (size_t i = 0; i < pixels; ++i) {
    const int64_t label = value_at(l, i), prediction = value_at(p, i);
    if (label == ignore) continue;
    const bool is_label = 0 <= label && label < classes, is_class = 0 <= prediction && prediction < classes;
    if (is_label && is_class) {
      ++expected[label * classes + prediction];
    } else if (!first.found) {
      first = {true, !is_label, static_cast<int64_t>(i), is_label ? prediction : label};
    }
  }
  if (counts != expected || found.found != first.found ||
      (first.found &&
       (found.in_labels != first.in_labels || found.index != first.index || found.value != first.value))) {
    std::fprintf(stderr, "FINDING: other counts than a plain loop's, or another first value out of range\n");
    std::abort();
  }
  return 0;
}
