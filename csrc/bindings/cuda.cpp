// CUDA: addresses are device pointers.
#include "bindings.h"

namespace deeplab_fast {
namespace {

Element element_of(const std::string& name) {
  if (name == "uint8") return Element::uint8;
  if (name == "float16") return Element::float16;
  if (name == "bfloat16") return Element::bfloat16;
  if (name == "float32") return Element::float32;
  throw py::type_error(name + ": expected uint8, float16, bfloat16 or float32");
}

Integer integer_of(const std::string& name) {
  if (name == "uint8") return Integer::uint8;
  if (name == "int8") return Integer::int8;
  if (name == "int16") return Integer::int16;
  if (name == "int32") return Integer::int32;
  if (name == "int64") return Integer::int64;
  throw py::type_error(name + ": expected uint8 or a signed integer type");
}

}  // namespace

void bind_cuda(py::module_& m) {
  using py::arg;
  m.def(
      "augment_cuda",
      [](uintptr_t images, uintptr_t labels, uintptr_t samples, int count, int crop_size, bool bicubic,
         int ignore_label, const std::array<float, 3>& mean, const std::array<float, 3>& std,
         const std::string& type, uintptr_t out_images, uintptr_t out_labels, uintptr_t extents,
         uintptr_t stream) {
        const CropOptions options{crop_size, 1.0, 1.0, bicubic, ignore_label};
        augment_cuda(at_address<const uint8_t>(images), at_address<const uint8_t>(labels),
                     at_address<const Sample>(samples), count, options, mean.data(), std.data(),
                     element_of(type), at_address<void>(out_images), at_address<uint8_t>(out_labels),
                     at_address<int32_t>(extents), at_address<void>(stream));
      },
      arg("images"), arg("labels"), arg("samples"), arg("count"), arg("crop_size"), arg("bicubic"),
      arg("ignore_label"), arg("mean"), arg("std"), arg("type"), arg("out_images"), arg("out_labels"),
      arg("extents"), arg("stream"));
  m.def(
      "count_pairs_cuda",
      [](uintptr_t labels, const std::string& label_type, uintptr_t predictions,
         const std::string& prediction_type, int64_t pixels, int classes, int64_t ignore_label,
         uintptr_t counts, uintptr_t wrong, uintptr_t stream) {
        count_pairs_cuda({at_address<void>(labels), integer_of(label_type)},
                         {at_address<void>(predictions), integer_of(prediction_type)}, pixels, classes,
                         ignore_label, at_address<int64_t>(counts), at_address<uint64_t>(wrong),
                         at_address<void>(stream));
      },
      arg("labels"), arg("label_type"), arg("predictions"), arg("prediction_type"), arg("pixels"),
      arg("classes"), arg("ignore_label"), arg("counts"), arg("wrong"), arg("stream"));
  m.def("cuda_missing", &cuda_missing, "'' where the kernels run on the current device, else why not.");
}

}  // namespace deeplab_fast
