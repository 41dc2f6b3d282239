// Resampling.
#include "bindings.h"

namespace deeplab_fast {
namespace {

Crop crop_of(const Array& source, const std::array<int, 2>& size, const std::array<int, 4>& window) {
  Crop crop{};
  crop.source_height = static_cast<int>(source.shape(0));
  crop.source_width = static_cast<int>(source.shape(1));
  crop.height = size[0];
  crop.width = size[1];
  crop.kept = {window[0], window[1], window[2], window[3]};
  const Window& kept = crop.kept;
  if (kept.top < 0 || kept.left < 0 || kept.top >= kept.bottom || kept.left >= kept.right ||
      kept.bottom > crop.height || kept.right > crop.width) {
    throw py::value_error("the window is empty or reaches beyond the resized image");
  }
  return crop;
}

Pixels pixels_of(const Array& array, int channels) {
  const int height = static_cast<int>(array.shape(0)), width = static_cast<int>(array.shape(1));
  return {array.data(), channels * static_cast<ptrdiff_t>(width), {0, height, 0, width}};
}

Array resample(const Array& source, const std::array<int, 2>& size, const std::array<int, 4>& window,
               bool bicubic, bool is_label) {
  check_shape(source, is_label ? 2 : 3, is_label ? "label" : "image");
  const Crop crop = crop_of(source, size, window);
  const py::ssize_t rows = window[1] - window[0], columns = window[3] - window[2];
  Array out = is_label ? Array({rows, columns}) : Array({rows, columns, py::ssize_t{3}});
  uint8_t* to = out.mutable_data();
  const Pixels pixels = pixels_of(source, is_label ? 1 : 3);
  const py::gil_scoped_release release;
  AugmentScratch scratch;
  if (is_label) {
    resample_label(pixels, crop, scratch, to, columns);
  } else {
    resample_image(pixels, crop, bicubic, scratch, to, 3 * columns);
  }
  return out;
}

}  // namespace

void bind_augment(py::module_& m) {
  using py::arg;
  m.def("vector_extension", &vector_extension, "The instruction set of the resampling loops.");
  m.def("limit_vector_extension", &limit_vector_extension, arg("limit"),
        "'generic', 'AVX2' or 'AVX-512' holds the loops down to it; '' gives the best again.");

  m.def(
      "resample_image",
      [](const Array& image, const std::array<int, 2>& size, const std::array<int, 4>& window, bool bicubic) {
        return resample(image, size, window, bicubic, false);
      },
      arg("image"), arg("size"), arg("window"), arg("bicubic"));
  m.def(
      "resample_label",
      [](const Array& label, const std::array<int, 2>& size, const std::array<int, 4>& window) {
        return resample(label, size, window, false, true);
      },
      arg("label"), arg("size"), arg("window"));

  m.def(
      "augment_ragged",
      [](uintptr_t images, uintptr_t labels, uintptr_t samples, int count, int crop_size, bool bicubic,
         int ignore_label, uintptr_t out_images, uintptr_t out_labels, uintptr_t extents) {
        const CropOptions options{crop_size, 1.0, 1.0, bicubic, ignore_label};
        const py::gil_scoped_release release;
        augment_ragged(at_address<const uint8_t>(images), at_address<const uint8_t>(labels),
                       at_address<const Sample>(samples), count, options, at_address<uint8_t>(out_images),
                       at_address<uint8_t>(out_labels), at_address<int32_t>(extents));
      },
      arg("images"), arg("labels"), arg("samples"), arg("count"), arg("crop_size"), arg("bicubic"),
      arg("ignore_label"), arg("out_images"), arg("out_labels"), arg("extents"));
  m.def(
      "normalise",
      [](const Array& images, const py::array_t<int32_t, py::array::c_style>& extents,
         const std::array<float, 3>& mean, const std::array<float, 3>& std,
         py::array_t<float, py::array::c_style> out) {
        const py::ssize_t count = images.ndim() == 4 ? images.shape(0) : -1;
        if (count < 0 || images.shape(3) != 3 || extents.ndim() != 2 || extents.shape(0) != count ||
            extents.shape(1) != 4 || out.size() != images.size()) {
          throw py::value_error("expected uint8 [N, H, W, 3], int32 [N, 4] and as many floats as pixels");
        }
        const int height = static_cast<int>(images.shape(1)), width = static_cast<int>(images.shape(2));
        const int32_t* extent = extents.data();
        for (py::ssize_t n = 0; n < count; ++n, extent += 4) {
          const bool rows = 0 <= extent[0] && extent[0] <= extent[1] && extent[1] <= height;
          const bool columns = 0 <= extent[2] && extent[2] <= extent[3] && extent[3] <= width;
          if (!rows || !columns) throw py::value_error("an extent reaches beyond its image");
        }
        const uint8_t* from = images.data();
        float* to = out.mutable_data();
        extent = extents.data();
        const py::gil_scoped_release release;
        normalise(from, extent, static_cast<int>(count), height, width, mean.data(), std.data(), to);
      },
      arg("images").noconvert(), arg("extents").noconvert(), arg("mean"), arg("std"), arg("out").noconvert());
}

}  // namespace deeplab_fast
