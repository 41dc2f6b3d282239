// The only PYBIND11_MODULE: argument checks, casts, GIL release. No arithmetic.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "api.h"

#define DEEPLAB_FAST_STRING_(x) #x
#define DEEPLAB_FAST_STRING(x) DEEPLAB_FAST_STRING_(x)

namespace deeplab_fast {

std::map<std::string, std::string> build_info() {
  return {
#if defined(__clang__)
      {"compiler", "clang " DEEPLAB_FAST_STRING(__clang_major__)},
#elif defined(__GNUC__)
      {"compiler", "gcc " DEEPLAB_FAST_STRING(__GNUC__)},
#elif defined(_MSC_VER)
      {"compiler", "msvc " DEEPLAB_FAST_STRING(_MSC_VER)},
#endif
      {"c++", DEEPLAB_FAST_STRING(__cplusplus)},
  };
}

}  // namespace deeplab_fast

PYBIND11_MODULE(_C, m) {
  m.doc() = "Native functions of deeplab_fast; call them through deeplab_fast.ops.";
  m.def("build_info", &deeplab_fast::build_info, "What this build was made with.");
}
