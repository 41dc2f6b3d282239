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

// Pairs (height, width) from int32 [images, 2]; each within `most`, where that is more than 0.
std::vector<PixelSize> sizes_of(const py::array_t<int32_t, py::array::c_style>& pairs, py::ssize_t images,
                                int most, const char* what) {
  if (pairs.ndim() != 2 || pairs.shape(0) != images || pairs.shape(1) != 2)
    throw py::value_error(std::string(what) + ": expected int32 [images, 2]");
  std::vector<PixelSize> sizes;
  for (py::ssize_t i = 0; i < images; ++i) {
    const PixelSize size{pairs.at(i, 0), pairs.at(i, 1)};
    if (size.height < 1 || size.width < 1 || (most > 0 && (size.height > most || size.width > most)))
      throw py::value_error(std::string(what) + ": a size is out of range");
    sizes.push_back(size);
  }
  return sizes;
}

using Pairs = py::array_t<int32_t, py::array::c_style>;

void upsample_argmax_cpu(const std::vector<Floats>& scores, const std::vector<int>& sizes,
                         const std::vector<Pairs>& extents, const Pairs& targets, bool align_corners,
                         int threads, py::array_t<uint8_t, py::array::c_style> out) {
  if (scores.empty() || sizes.size() != scores.size() || extents.size() != scores.size())
    throw py::value_error("views: expected as many scores as sizes and extents, at least one");
  const py::ssize_t images = scores[0].ndim() == 4 ? scores[0].shape(0) : 0;
  const py::ssize_t classes = images ? scores[0].shape(3) : 0;
  std::vector<std::vector<PixelSize>> kept;
  for (size_t v = 0; v < scores.size(); ++v) {
    const Floats& one = scores[v];
    if (one.ndim() != 4 || one.size() == 0 || one.shape(0) != images || one.shape(3) != classes ||
        classes > 256)
      throw py::value_error("scores: expected float32 [images, h, w, classes], at most 256 classes");
    if (sizes[v] < 1) throw py::value_error("sizes: expected at least 1");
    kept.push_back(sizes_of(extents[v], images, sizes[v], "extents"));
  }
  std::vector<ScoresView> views;
  for (size_t v = 0; v < scores.size(); ++v) {
    views.push_back({scores[v].data(), static_cast<int>(scores[v].shape(1)),
                     static_cast<int>(scores[v].shape(2)), sizes[v], kept[v].data()});
  }
  const std::vector<PixelSize> wanted = sizes_of(targets, images, 0, "targets");
  int64_t pixels = 0;
  for (const PixelSize& size : wanted) pixels += static_cast<int64_t>(size.height) * size.width;
  if (out.ndim() != 1 || out.size() != pixels) throw py::value_error("out: expected the targets' pixels");
  uint8_t* to = out.mutable_data();
  const py::gil_scoped_release release;
  upsample_argmax(views, static_cast<int>(classes), wanted, align_corners, threads, to);
}

}  // namespace

void bind_upsample(py::module_& m) {
  using py::arg;
  m.def("upsample_argmax", &upsample_argmax_cpu, arg("scores").noconvert(), arg("sizes"),
        arg("extents").noconvert(), arg("targets").noconvert(), arg("align_corners"), arg("threads"),
        arg("out").noconvert(), "Writes the class of each pixel, one image after the other.");
  m.def("upsample_ce", &upsample_ce_cpu, arg("logits").noconvert(), arg("labels"),
        arg("class_weights").noconvert(), arg("ignore_label"), arg("smoothing"), arg("align_corners"),
        arg("threads"), arg("gradient").noconvert(),
        "Writes the gradient; returns (total, weight, bad_count, bad_value).");
  m.def("upsample_ce_per_pixel", &upsample_ce_per_pixel_cpu, arg("logits").noconvert(), arg("labels"),
        arg("ignore_label"), arg("align_corners"), arg("threads"), arg("losses").noconvert(),
        "Writes the losses; returns (bad_count, bad_value).");
}

}  // namespace deeplab_fast
