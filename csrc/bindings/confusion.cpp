// Counting on the CPU.
#include "bindings.h"

namespace deeplab_fast {
namespace {

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

}  // namespace

void bind_confusion(py::module_& m) {
  using py::arg;
  m.def("count_pairs", &count_pairs_cpu, arg("labels"), arg("predictions"), arg("classes"),
        arg("ignore_label"), arg("counts").noconvert());
}

}  // namespace deeplab_fast
