// What the files of bindings share. They check arguments, cast, and release the GIL; no arithmetic.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <optional>

#include "../api.h"

namespace deeplab_fast {

namespace py = pybind11;

using Array = py::array_t<uint8_t, py::array::c_style>;

inline py::buffer_info bytes_of(const py::buffer& data) {
  py::buffer_info info = data.request();
  const bool contiguous = info.ndim == 1 && (info.size <= 1 || info.strides[0] == 1);
  if (info.itemsize != 1 || !contiguous) throw py::type_error("expected contiguous bytes");
  return info;
}

inline const uint8_t* pointer(const py::buffer_info& info) { return static_cast<const uint8_t*>(info.ptr); }

inline Integer integer_of(const py::array& array) {
  const char kind = array.dtype().kind();
  const py::ssize_t bytes = array.itemsize();
  if (kind == 'u' && bytes == 1) return Integer::uint8;
  if (kind == 'i' && bytes == 1) return Integer::int8;
  if (kind == 'i' && bytes == 2) return Integer::int16;
  if (kind == 'i' && bytes == 4) return Integer::int32;
  if (kind == 'i' && bytes == 8) return Integer::int64;
  throw py::type_error("expected uint8 or a signed integer type");
}

inline Integers integers_of(const py::array& array) {
  if (!(array.flags() & py::array::c_style)) throw py::value_error("expected a contiguous array");
  return {array.data(), integer_of(array)};
}

using Counts = py::array_t<int64_t, py::array::c_style>;

inline int64_t* counts_of(Counts& counts, int classes) {
  if (counts.ndim() != 2 || counts.shape(0) != classes || counts.shape(1) != classes) {
    throw py::value_error("counts: expected int64 [classes, classes]");
  }
  return counts.mutable_data();
}

// (in labels, index, value) of the first value out of range, or None.
inline py::object as_python(const OutOfRange& wrong) {
  if (!wrong.found) return py::none();
  return py::make_tuple(wrong.in_labels, wrong.index, wrong.value);
}

// Of memory that the caller holds, on the host or the device.
template <typename T>
T* at_address(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

inline void check_shape(const Array& array, int dimensions, const char* what) {
  if (array.ndim() != dimensions || (dimensions == 3 && array.shape(2) != 3) || array.size() == 0) {
    throw py::value_error(std::string(what) + ": expected uint8 " +
                          (dimensions == 3 ? "[H, W, 3]" : "[H, W]"));
  }
}

// Each adds its functions to the module.
void bind_decode(py::module_& m);
void bind_augment(py::module_& m);
void bind_confusion(py::module_& m);
void bind_upsample(py::module_& m);
void bind_loader(py::module_& m);
void bind_cuda(py::module_& m);
void bind_gemm(py::module_& m);

}  // namespace deeplab_fast
