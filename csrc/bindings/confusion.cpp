// Counting on the CPU.
#include "bindings.h"

namespace deeplab_fast {
namespace {

Integer integer_of(char kind, py::ssize_t bytes) {
  if (kind == 'u' && bytes == 1) return Integer::uint8;
  if (kind == 'i' && bytes == 1) return Integer::int8;
  if (kind == 'i' && bytes == 2) return Integer::int16;
  if (kind == 'i' && bytes == 4) return Integer::int32;
  if (kind == 'i' && bytes == 8) return Integer::int64;
  throw py::type_error("expected uint8 or a signed integer type");
}

Integers integers_of(const py::array& array) {
  if (!(array.flags() & py::array::c_style)) throw py::value_error("expected a contiguous array");
  return {array.data(), integer_of(array.dtype().kind(), array.itemsize())};
}

// (in labels, index, value) of the first value out of range, or None.
py::object as_python(const OutOfRange& wrong) {
  if (!wrong.found) return py::none();
  return py::make_tuple(wrong.in_labels, wrong.index, wrong.value);
}

using Counts = py::array_t<int64_t, py::array::c_style>;

int64_t* counts_of(Counts& counts, int classes) {
  if (counts.ndim() != 2 || counts.shape(0) != classes || counts.shape(1) != classes) {
    throw py::value_error("counts: expected int64 [classes, classes]");
  }
  return counts.mutable_data();
}

py::object count_pairs_cpu(const py::array& labels, const py::array& predictions, int classes,
                           int64_t ignore_label, Counts counts) {
  if (labels.size() != predictions.size())
    throw py::value_error("labels and predictions: expected the same shape");
  const Integers l = integers_of(labels), p = integers_of(predictions);
  int64_t* to = counts_of(counts, classes);
  const int64_t pixels = labels.size();
  OutOfRange wrong;
  {
    const py::gil_scoped_release release;
    wrong = count_pairs(l, p, pixels, classes, ignore_label, to);
  }
  return as_python(wrong);
}

py::object count_upsampled_cpu(const py::array_t<float, py::array::c_style>& logits, const Array& labels,
                               bool align_corners, int ignore_label, Counts counts) {
  if (logits.ndim() != 3 || logits.size() == 0)
    throw py::value_error("logits: expected float32 [h, w, classes]");
  check_shape(labels, 2, "labels");
  const int h = static_cast<int>(logits.shape(0)), w = static_cast<int>(logits.shape(1));
  const int classes = static_cast<int>(logits.shape(2));
  int64_t* to = counts_of(counts, classes);
  const float* from = logits.data();
  const uint8_t* truth = labels.data();
  const int height = static_cast<int>(labels.shape(0)), width = static_cast<int>(labels.shape(1));
  OutOfRange wrong;
  {
    const py::gil_scoped_release release;
    wrong = count_upsampled(from, h, w, classes, truth, height, width, align_corners, ignore_label, to);
  }
  return as_python(wrong);
}

}  // namespace

void bind_confusion(py::module_& m) {
  using py::arg;
  m.def("count_pairs", &count_pairs_cpu, arg("labels"), arg("predictions"), arg("classes"),
        arg("ignore_label"), arg("counts").noconvert());
  m.def("count_upsampled", &count_upsampled_cpu, arg("logits").noconvert(), arg("labels").noconvert(),
        arg("align_corners"), arg("ignore_label"), arg("counts").noconvert());
}

}  // namespace deeplab_fast
