// The only PYBIND11_MODULE. What it holds is in bindings/, one file a subject.
#include "bindings/bindings.h"

#define DEEPLAB_FAST_STRING_(x) #x
#define DEEPLAB_FAST_STRING(x) DEEPLAB_FAST_STRING_(x)

namespace deeplab_fast {

// setup.py defines each of the parts as what was found, or as the reason why it is missing, and the sources'
// digest.
std::map<std::string, std::string> build_info() {
  return {
#if defined(__clang__)
      {"compiler", "clang " DEEPLAB_FAST_STRING(__clang_major__)},
#elif defined(__GNUC__)
      {"compiler", "gcc " DEEPLAB_FAST_STRING(__GNUC__)},
#endif
      {"JPEG", DEEPLAB_FAST_JPEG},
      {"PNG", DEEPLAB_FAST_PNG},
      {"deflate", DEEPLAB_FAST_DEFLATE},
      {"CUDA", DEEPLAB_FAST_CUDA},
      {"GEMM", DEEPLAB_FAST_GEMM},
      {"sources", DEEPLAB_FAST_SOURCES},
  };
}

}  // namespace deeplab_fast

PYBIND11_MODULE(_C, m) {
  namespace df = deeplab_fast;
  m.doc() = "Native functions of deeplab_fast; call them through deeplab_fast.ops.";
  pybind11::register_exception<df::DecodeError>(m, "DecodeError", PyExc_ValueError);
  pybind11::register_exception<df::DeviceError>(m, "DeviceError", PyExc_RuntimeError);
  m.def("build_info", &df::build_info, "What this build was made with, and why parts of it are missing.");
  df::bind_decode(m);
  df::bind_augment(m);
  df::bind_confusion(m);
  df::bind_upsample(m);
  df::bind_loader(m);
  df::bind_cuda(m);
  df::bind_gemm(m);
}
