// Files to arrays.
#include "bindings.h"

namespace deeplab_fast {
namespace {

py::tuple image_size(const py::buffer& data, bool apply_exif, int64_t max_pixels) {
  const py::buffer_info info = bytes_of(data);
  const Size size =
      make_image_decoder({apply_exif, max_pixels})->open(pointer(info), static_cast<size_t>(info.size));
  return py::make_tuple(size.height, size.width);
}

// `window` is (top, bottom, left, right), or nothing for all of it.
Array decode(const py::buffer& data, const std::optional<std::array<int, 4>>& window, bool is_label,
             const DecodeRules& rules) {
  const py::buffer_info info = bytes_of(data);
  const auto decoder = is_label ? make_label_decoder(rules) : make_image_decoder(rules);
  Size size;
  {
    const py::gil_scoped_release release;
    size = decoder->open(pointer(info), static_cast<size_t>(info.size));
  }
  Window kept{0, size.height, 0, size.width};
  if (window) kept = {(*window)[0], (*window)[1], (*window)[2], (*window)[3]};
  if (kept.top < 0 || kept.left < 0 || kept.top >= kept.bottom || kept.left >= kept.right ||
      kept.bottom > size.height || kept.right > size.width) {
    throw py::value_error("the window is empty or reaches beyond the image");
  }
  const py::ssize_t rows = kept.bottom - kept.top, columns = kept.right - kept.left;
  Array out = is_label ? Array({rows, columns}) : Array({rows, columns, py::ssize_t{3}});
  uint8_t* to = out.mutable_data();
  {
    const py::gil_scoped_release release;
    decoder->read(kept, to, (is_label ? 1 : 3) * columns);
  }
  return out;
}

}  // namespace

void bind_decode(py::module_& m) {
  using py::arg;
  const DecodeRules rules;
  m.def("image_size", &image_size, arg("data"), arg("apply_exif") = rules.apply_exif,
        arg("max_pixels") = rules.max_pixels, "Height and width from a file's header.");
  m.def(
      "decode_image",
      [](const py::buffer& data, const std::optional<std::array<int, 4>>& window, bool apply_exif,
         int64_t max_pixels) { return decode(data, window, false, {apply_exif, max_pixels}); },
      arg("data"), arg("window") = py::none(), arg("apply_exif") = rules.apply_exif,
      arg("max_pixels") = rules.max_pixels, "uint8 [H, W, 3] RGB of a file, or of a window of it.");
  m.def(
      "decode_label",
      [](const py::buffer& data, const std::optional<std::array<int, 4>>& window, int64_t max_pixels) {
        return decode(data, window, true, {false, max_pixels});
      },
      arg("data"), arg("window") = py::none(), arg("max_pixels") = rules.max_pixels,
      "uint8 [H, W] class indexes of a label file, or of a window of it.");
}

}  // namespace deeplab_fast
