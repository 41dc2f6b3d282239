// What is computed straight from low-resolution logits.
#include "bindings.h"

namespace deeplab_fast {
namespace {

using Floats = py::array_t<float, py::array::c_style>;

// Of logits fp32 [N, h, w, C] and labels [N, H, W], neither of them empty.
UpsampleShape shape_of(const Floats& logits, const py::array& labels, bool align_corners) {
  if (logits.ndim() != 4 || logits.size() == 0)
    throw py::value_error("logits: expected float32 [N, h, w, classes]");
  if (labels.ndim() != 3 || labels.size() == 0 || labels.shape(0) != logits.shape(0))
    throw py::value_error("labels: expected [N, H, W] with the logits' N");
  if (logits.shape(3) > 256) throw py::value_error("logits: expected at most 256 classes");
  return {static_cast<int>(logits.shape(0)),
          static_cast<int>(logits.shape(1)),
          static_cast<int>(logits.shape(2)),
          static_cast<int>(logits.shape(3)),
          static_cast<int>(labels.shape(1)),
          static_cast<int>(labels.shape(2)),
          align_corners};
}

Integers targets_of(const py::array& labels) {
  const Integers targets = integers_of(labels);
  if (targets.type != Integer::uint8 && targets.type != Integer::int64)
    throw py::type_error("labels: expected uint8 or int64");
  return targets;
}

float* output_like(Floats& output, const py::array& other, const char* what) {
  bool fits = output.ndim() == other.ndim();
  for (py::ssize_t i = 0; fits && i < output.ndim(); ++i) fits = output.shape(i) == other.shape(i);
  if (!fits) throw py::value_error(std::string(what) + ": expected the shape of its input");
  return output.mutable_data();
}

py::object count_upsampled_cpu(const Floats& logits, const Array& labels, bool align_corners,
                               int ignore_label, int threads, Counts counts) {
  const UpsampleShape shape = shape_of(logits, labels, align_corners);
  const float* from = logits.data();
  const uint8_t* truth = labels.data();
  int64_t* to = counts_of(counts, shape.classes);
  OutOfRange wrong;
  {
    const py::gil_scoped_release release;
    wrong = count_upsampled(from, shape, truth, ignore_label, threads, to);
  }
  return as_python(wrong);
}

py::tuple upsample_ce_cpu(const Floats& logits, const py::array& labels,
                          const std::optional<Floats>& class_weights, int64_t ignore_label, float smoothing,
                          bool align_corners, int threads, Floats gradient) {
  const UpsampleShape shape = shape_of(logits, labels, align_corners);
  const Integers targets = targets_of(labels);
  const float* from = logits.data();
  const float* weights = nullptr;
  if (class_weights) {
    if (class_weights->ndim() != 1 || class_weights->shape(0) != shape.classes)
      throw py::value_error("class_weights: expected float32 [classes]");
    weights = class_weights->data();
  }
  float* to = output_like(gradient, logits, "gradient");
  CrossEntropy found;
  {
    const py::gil_scoped_release release;
    found = upsample_ce(from, shape, targets, ignore_label, weights, smoothing, threads, to);
  }
  return py::make_tuple(found.total, found.weight, found.bad_count, found.bad_value);
}

py::tuple upsample_ce_per_pixel_cpu(const Floats& logits, const py::array& labels, int64_t ignore_label,
                                    bool align_corners, int threads, Floats losses) {
  const UpsampleShape shape = shape_of(logits, labels, align_corners);
  const Integers targets = targets_of(labels);
  const float* from = logits.data();
  float* to = output_like(losses, labels, "losses");
  CrossEntropy found;
  {
    const py::gil_scoped_release release;
    found = upsample_ce_per_pixel(from, shape, targets, ignore_label, threads, to);
  }
  return py::make_tuple(found.bad_count, found.bad_value);
}

}  // namespace

void bind_upsample(py::module_& m) {
  using py::arg;
  m.def("count_upsampled", &count_upsampled_cpu, arg("logits").noconvert(), arg("labels").noconvert(),
        arg("align_corners"), arg("ignore_label"), arg("threads"), arg("counts").noconvert());
  m.def("upsample_ce", &upsample_ce_cpu, arg("logits").noconvert(), arg("labels"),
        arg("class_weights").noconvert(), arg("ignore_label"), arg("smoothing"), arg("align_corners"),
        arg("threads"), arg("gradient").noconvert(),
        "Writes the gradient; returns (total, weight, bad_count, bad_value).");
  m.def("upsample_ce_per_pixel", &upsample_ce_per_pixel_cpu, arg("logits").noconvert(), arg("labels"),
        arg("ignore_label"), arg("align_corners"), arg("threads"), arg("losses").noconvert(),
        "Writes the losses; returns (bad_count, bad_value).");
}

}  // namespace deeplab_fast
