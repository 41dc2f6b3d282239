// Convolutions with BatchNorm's share: addresses are device pointers.
#include "bindings.h"

namespace deeplab_fast {
namespace {

Element element_of(const std::string& name) {
  if (name == "float16") return Element::float16;
  if (name == "bfloat16") return Element::bfloat16;
  throw py::type_error(name + ": expected float16 or bfloat16");
}

// Addresses of mean, variance, weight and bias.
NormInput norm_of(uintptr_t x, const std::array<uintptr_t, 4>& norm, float eps) {
  return {at_address<void>(x),        at_address<float>(norm[0]), at_address<float>(norm[1]),
          at_address<float>(norm[2]), at_address<float>(norm[3]), eps};
}

// Images, height, width and rate.
ConvWindow window_of(const std::array<int, 4>& sizes, bool pixel_major) {
  return {sizes[0], sizes[1], sizes[2], sizes[3], pixel_major};
}

}  // namespace

void bind_gemm(py::module_& m) {
  using py::arg;
  m.def("gemm_missing", &gemm_missing, "Why the convolutions do not run on the current device, or nothing.");
  m.def(
      "conv1x1_cuda",
      [](const std::string& type, uintptr_t a, uintptr_t weight, uintptr_t y, uintptr_t parts, int rows,
         int in, int out, uintptr_t stream) {
        conv1x1_cuda(element_of(type), at_address<void>(a), at_address<void>(weight), at_address<void>(y),
                     at_address<float>(parts), rows, in, out, at_address<void>(stream));
      },
      arg("type"), arg("a"), arg("weight"), arg("y"), arg("parts"), arg("rows"), arg("channels_in"),
      arg("channels_out"), arg("stream"));
  m.def(
      "conv3x3_cuda",
      [](const std::string& type, uintptr_t a, uintptr_t weight, uintptr_t y, uintptr_t parts,
         const std::array<int, 4>& window, bool pixel_major, int in, int out, uintptr_t stream) {
        conv3x3_cuda(element_of(type), at_address<void>(a), at_address<void>(weight), at_address<void>(y),
                     at_address<float>(parts), window_of(window, pixel_major), in, out,
                     at_address<void>(stream));
      },
      arg("type"), arg("a"), arg("weight"), arg("y"), arg("parts"), arg("window"), arg("pixel_major"),
      arg("channels_in"), arg("channels_out"), arg("stream"));
  m.def(
      "conv1x1_gradient_cuda",
      [](const std::string& type, uintptr_t dy, uintptr_t weight, uintptr_t x,
         const std::array<uintptr_t, 4>& norm, float eps, uintptr_t added, uintptr_t activation, uintptr_t dz,
         uintptr_t parts, int rows, int in, int out, uintptr_t stream) {
        conv1x1_gradient_cuda(element_of(type), at_address<void>(dy), at_address<void>(weight),
                              norm_of(x, norm, eps), at_address<void>(added), at_address<void>(activation),
                              at_address<void>(dz), at_address<float>(parts), rows, in, out,
                              at_address<void>(stream));
      },
      arg("type"), arg("dy"), arg("weight"), arg("x"), arg("norm"), arg("eps"), arg("added"),
      arg("activation"), arg("dz"), arg("parts"), arg("rows"), arg("channels_in"), arg("channels_out"),
      arg("stream"));
  m.def(
      "conv3x3_gradient_cuda",
      [](const std::string& type, uintptr_t dy, uintptr_t weight, uintptr_t x,
         const std::array<uintptr_t, 4>& norm, float eps, uintptr_t dz, uintptr_t parts,
         const std::array<int, 4>& window, bool pixel_major, int in, int out, uintptr_t stream) {
        conv3x3_gradient_cuda(element_of(type), at_address<void>(dy), at_address<void>(weight),
                              norm_of(x, norm, eps), at_address<void>(dz), at_address<float>(parts),
                              window_of(window, pixel_major), in, out, at_address<void>(stream));
      },
      arg("type"), arg("dy"), arg("weight"), arg("x"), arg("norm"), arg("eps"), arg("dz"), arg("parts"),
      arg("window"), arg("pixel_major"), arg("channels_in"), arg("channels_out"), arg("stream"));
}

}  // namespace deeplab_fast
