// The only PYBIND11_MODULE: argument checks, casts, GIL release. No arithmetic.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstring>
#include <optional>

#include "api.h"

#define DEEPLAB_FAST_STRING_(x) #x
#define DEEPLAB_FAST_STRING(x) DEEPLAB_FAST_STRING_(x)

namespace py = pybind11;

namespace deeplab_fast {

// setup.py defines each of the parts as what was found, or as the reason why it is missing.
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
  };
}

namespace {

using Array = py::array_t<uint8_t, py::array::c_style>;

py::buffer_info bytes_of(const py::buffer& data) {
  py::buffer_info info = data.request();
  if (info.itemsize != 1 || info.ndim != 1) throw py::type_error("expected bytes");
  return info;
}

const uint8_t* pointer(const py::buffer_info& info) { return static_cast<const uint8_t*>(info.ptr); }

template <typename T>
T* device_pointer(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

// ---------------------------------------------------------------- decode

py::tuple image_size(const py::buffer& data) {
  const py::buffer_info info = bytes_of(data);
  const Size size = make_image_decoder()->open(pointer(info), static_cast<size_t>(info.size));
  return py::make_tuple(size.height, size.width);
}

// `window` is (top, bottom, left, right), or nothing for all of it.
Array decode(const py::buffer& data, const std::optional<std::array<int, 4>>& window, bool is_label) {
  const py::buffer_info info = bytes_of(data);
  const auto decoder = is_label ? make_label_decoder() : make_image_decoder();
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

// ---------------------------------------------------------------- augment

void check_shape(const Array& array, int dimensions, const char* what) {
  if (array.ndim() != dimensions || (dimensions == 3 && array.shape(2) != 3) || array.size() == 0) {
    throw py::value_error(std::string(what) + ": expected uint8 " +
                          (dimensions == 3 ? "[H, W, 3]" : "[H, W]"));
  }
}

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

// ---------------------------------------------------------------- confusion matrix

Integer integer_of(char kind, py::ssize_t bytes) {
  if (kind == 'u' && bytes == 1) return Integer::uint8;
  if (kind == 'i' && bytes == 1) return Integer::int8;
  if (kind == 'i' && bytes == 2) return Integer::int16;
  if (kind == 'i' && bytes == 4) return Integer::int32;
  if (kind == 'i' && bytes == 8) return Integer::int64;
  throw py::type_error("expected uint8 or a signed integer type");
}

Integers integers_of(const py::array& array) {
  if (!(array.flags() & py::array::c_style)) throw py::value_error("expected a contiguous array");
  return {array.data(), integer_of(array.dtype().kind(), array.itemsize())};
}

// (in labels, index, value) of the first value out of range, or None.
py::object as_python(const OutOfRange& wrong) {
  if (!wrong.found) return py::none();
  return py::make_tuple(wrong.in_labels, wrong.index, wrong.value);
}

using Counts = py::array_t<int64_t, py::array::c_style>;

int64_t* counts_of(Counts& counts, int classes) {
  if (counts.ndim() != 2 || counts.shape(0) != classes || counts.shape(1) != classes) {
    throw py::value_error("counts: expected int64 [classes, classes]");
  }
  return counts.mutable_data();
}

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

py::object count_upsampled_cpu(const py::array_t<float, py::array::c_style>& logits, const Array& labels,
                               bool align_corners, int ignore_label, Counts counts) {
  if (logits.ndim() != 3 || logits.size() == 0)
    throw py::value_error("logits: expected float32 [h, w, classes]");
  check_shape(labels, 2, "labels");
  const int h = static_cast<int>(logits.shape(0)), w = static_cast<int>(logits.shape(1));
  const int classes = static_cast<int>(logits.shape(2));
  int64_t* to = counts_of(counts, classes);
  const float* from = logits.data();
  const uint8_t* truth = labels.data();
  const int height = static_cast<int>(labels.shape(0)), width = static_cast<int>(labels.shape(1));
  OutOfRange wrong;
  {
    const py::gil_scoped_release release;
    wrong = count_upsampled(from, h, w, classes, truth, height, width, align_corners, ignore_label, to);
  }
  return as_python(wrong);
}

// ---------------------------------------------------------------- loader

template <typename T>
using Table = py::array_t<T, py::array::c_style>;

template <typename T>
void check_columns(const Table<T>& table, py::ssize_t rows, py::ssize_t columns, const char* what) {
  if (table.ndim() != 2 || table.shape(0) != rows || table.shape(1) != columns) {
    throw py::value_error(std::string(what) + ": expected [" + std::to_string(rows) + ", " +
                          std::to_string(columns) + "]");
  }
}

// Columns of `extracts`: file, offset, size of the image, then of the label; of `draws`: scale, top, left,
// flip; of `colours`: 12 a job, row by row, or an empty array. The target's addresses are the caller's to
// keep alive.
int64_t submit(Loader& loader, const Table<int64_t>& extracts, const Table<double>& draws,
               const Table<int32_t>& colours, const std::vector<int>& places, uintptr_t images,
               uintptr_t labels, uintptr_t extents, uintptr_t samples) {
  const auto count = static_cast<py::ssize_t>(places.size());
  check_columns(extracts, count, 6, "extracts");
  check_columns(draws, count, 4, "draws");
  if (colours.size() != 0) check_columns(colours, count, 12, "colours");
  std::vector<ColourMatrix> matrices(colours.size() / 12);
  if (!matrices.empty()) std::memcpy(matrices.data(), colours.data(), matrices.size() * sizeof(ColourMatrix));
  std::vector<Job> jobs;
  for (py::ssize_t i = 0; i < count; ++i) {
    const int64_t* e = extracts.data(i, 0);
    const double* d = draws.data(i, 0);
    jobs.push_back({{static_cast<int32_t>(e[0]), e[1], e[2]},
                    {static_cast<int32_t>(e[3]), e[4], e[5]},
                    {d[0], d[1], d[2], d[3]},
                    matrices.empty() ? nullptr : &matrices[i]});
  }
  const Target target{device_pointer<uint8_t>(images), device_pointer<uint8_t>(labels),
                      device_pointer<int32_t>(extents), device_pointer<Sample>(samples)};
  const py::gil_scoped_release release;
  return loader.submit(jobs, places, target);
}

const char* name_of(Fault fault) {
  switch (fault) {
    case Fault::image:
      return "image";
    case Fault::label:
      return "label";
    case Fault::size:
      return "size";
    case Fault::value:
      return "value";
  }
  return "";
}

// None while the batch is not finished; else its failures: (place, whose fault, text).
py::object wait(Loader& loader, int64_t ticket, double seconds) {
  std::vector<Failure> failures;
  {
    const py::gil_scoped_release release;
    if (!loader.wait(ticket, seconds, &failures)) return py::none();
  }
  py::list found;
  for (const Failure& failure : failures) {
    found.append(py::make_tuple(failure.index, name_of(failure.fault), py::str(failure.text)));
  }
  return found;
}

// Columns of `offsets`: where each sample's pixels are to go, and the room there: of the image, then of the
// label.
void write_samples(uintptr_t samples, const Table<int64_t>& offsets) {
  check_columns(offsets, offsets.shape(0), 4, "offsets");
  auto* sample = device_pointer<Sample>(samples);
  for (py::ssize_t i = 0; i < offsets.shape(0); ++i) {
    sample[i] = Sample{};
    sample[i].image_offset = offsets.at(i, 0);
    sample[i].image_room = offsets.at(i, 1);
    sample[i].label_offset = offsets.at(i, 2);
    sample[i].label_room = offsets.at(i, 3);
  }
}

// ---------------------------------------------------------------- CUDA: addresses are device pointers

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

struct Files {
  std::vector<py::buffer_info> infos;
  std::vector<const uint8_t*> data;
  std::vector<size_t> sizes;

  explicit Files(const std::vector<py::buffer>& files) {
    for (const py::buffer& file : files) {
      infos.push_back(bytes_of(file));
      data.push_back(pointer(infos.back()));
      sizes.push_back(static_cast<size_t>(infos.back().size));
    }
  }
};

}  // namespace
}  // namespace deeplab_fast

PYBIND11_MODULE(_C, m) {
  namespace df = deeplab_fast;
  using py::arg;
  m.doc() = "Native functions of deeplab_fast; call them through deeplab_fast.ops.";
  py::register_exception<df::DecodeError>(m, "DecodeError", PyExc_ValueError);
  py::register_exception<df::DeviceError>(m, "DeviceError", PyExc_RuntimeError);

  m.def("build_info", &df::build_info, "What this build was made with, and why parts of it are missing.");
  m.def("vector_extension", &df::vector_extension, "The instruction set of the resampling loops.");
  m.def("limit_vector_extension", &df::limit_vector_extension, arg("limit"),
        "'generic' or 'AVX2' holds the loops down to it; '' gives the best again.");

  m.def("image_size", &df::image_size, arg("data"), "Height and width from a file's header.");
  m.def(
      "decode_image",
      [](const py::buffer& data, const std::optional<std::array<int, 4>>& window) {
        return df::decode(data, window, false);
      },
      arg("data"), arg("window") = py::none(), "uint8 [H, W, 3] RGB of a file, or of a window of it.");
  m.def(
      "decode_label",
      [](const py::buffer& data, const std::optional<std::array<int, 4>>& window) {
        return df::decode(data, window, true);
      },
      arg("data"), arg("window") = py::none(),
      "uint8 [H, W] class indexes of a label file, or of a window of it.");
  m.def(
      "resample_image",
      [](const df::Array& image, const std::array<int, 2>& size, const std::array<int, 4>& window,
         bool bicubic) { return df::resample(image, size, window, bicubic, false); },
      arg("image"), arg("size"), arg("window"), arg("bicubic"));
  m.def(
      "resample_label",
      [](const df::Array& label, const std::array<int, 2>& size, const std::array<int, 4>& window) {
        return df::resample(label, size, window, false, true);
      },
      arg("label"), arg("size"), arg("window"));

  m.def(
      "augment_ragged",
      [](uintptr_t images, uintptr_t labels, uintptr_t samples, int count, int crop_size, bool bicubic,
         int ignore_label, uintptr_t out_images, uintptr_t out_labels, uintptr_t extents) {
        const df::Recipe recipe{crop_size, 1.0, 1.0, bicubic, ignore_label};
        const py::gil_scoped_release release;
        df::augment_ragged(df::device_pointer<const uint8_t>(images),
                           df::device_pointer<const uint8_t>(labels),
                           df::device_pointer<const df::Sample>(samples), count, recipe,
                           df::device_pointer<uint8_t>(out_images), df::device_pointer<uint8_t>(out_labels),
                           df::device_pointer<int32_t>(extents));
      },
      arg("images"), arg("labels"), arg("samples"), arg("count"), arg("crop_size"), arg("bicubic"),
      arg("ignore_label"), arg("out_images"), arg("out_labels"), arg("extents"));

  m.def("count_pairs", &df::count_pairs_cpu, arg("labels"), arg("predictions"), arg("classes"),
        arg("ignore_label"), arg("counts").noconvert());
  m.def("count_upsampled", &df::count_upsampled_cpu, arg("logits").noconvert(), arg("labels").noconvert(),
        arg("align_corners"), arg("ignore_label"), arg("counts").noconvert());

  m.def(
      "prefer_large_pages",
      [](uintptr_t address, size_t bytes) {
        df::prefer_large_pages(df::device_pointer<void>(address), bytes);
      },
      arg("address"), arg("bytes"));
  m.attr("SAMPLE_BYTES") = sizeof(df::Sample);
  m.def("write_samples", &df::write_samples, arg("samples"), arg("offsets"));
  py::class_<df::Loader>(m, "Loader", "Threads that take encoded samples to batches.")
      .def(py::init([](std::vector<std::string> files, bool mapped, int crop_size, double min_scale,
                       double max_scale, bool bicubic, int ignore_label, int classes, int threads) {
             const df::Recipe recipe{crop_size, min_scale, max_scale, bicubic, ignore_label};
             return std::make_unique<df::Loader>(std::move(files), mapped, recipe, classes, threads);
           }),
           arg("files"), arg("mapped"), arg("crop_size"), arg("min_scale"), arg("max_scale"), arg("bicubic"),
           arg("ignore_label"), arg("classes"), arg("threads"))
      .def("submit", &df::submit, arg("extracts"), arg("draws"), arg("colours"), arg("places"), arg("images"),
           arg("labels"), arg("extents"), arg("samples"))
      .def("done", &df::Loader::done, arg("ticket"))
      .def("wait", &df::wait, arg("ticket"), arg("seconds"))
      .def("spent", [](const df::Loader& loader) {
        const df::Spent spent = loader.spent();
        return py::make_tuple(spent.read, spent.image, spent.label, spent.augment);
      });

  m.def(
      "augment_cuda",
      [](uintptr_t images, uintptr_t labels, uintptr_t samples, int count, int crop_size, bool bicubic,
         int ignore_label, const std::array<float, 3>& mean, const std::array<float, 3>& std,
         const std::string& type, int channels, uintptr_t out_images, uintptr_t out_labels, uintptr_t extents,
         uintptr_t stream) {
        const df::Recipe recipe{crop_size, 1.0, 1.0, bicubic, ignore_label};
        df::augment_cuda(df::device_pointer<const uint8_t>(images), df::device_pointer<const uint8_t>(labels),
                         df::device_pointer<const df::Sample>(samples), count, recipe, mean.data(),
                         std.data(), df::element_of(type), channels, df::device_pointer<void>(out_images),
                         df::device_pointer<uint8_t>(out_labels), df::device_pointer<int32_t>(extents),
                         df::device_pointer<void>(stream));
      },
      arg("images"), arg("labels"), arg("samples"), arg("count"), arg("crop_size"), arg("bicubic"),
      arg("ignore_label"), arg("mean"), arg("std"), arg("type"), arg("channels"), arg("out_images"),
      arg("out_labels"), arg("extents"), arg("stream"));
  m.def(
      "count_pairs_cuda",
      [](uintptr_t labels, const std::string& label_type, uintptr_t predictions,
         const std::string& prediction_type, int64_t pixels, int classes, int64_t ignore_label,
         uintptr_t counts, uintptr_t wrong, uintptr_t stream) {
        df::count_pairs_cuda({df::device_pointer<void>(labels), df::integer_of(label_type)},
                             {df::device_pointer<void>(predictions), df::integer_of(prediction_type)}, pixels,
                             classes, ignore_label, df::device_pointer<int64_t>(counts),
                             df::device_pointer<uint64_t>(wrong), df::device_pointer<void>(stream));
      },
      arg("labels"), arg("label_type"), arg("predictions"), arg("prediction_type"), arg("pixels"),
      arg("classes"), arg("ignore_label"), arg("counts"), arg("wrong"), arg("stream"));
  m.def(
      "count_upsampled_cuda",
      [](uintptr_t logits, const std::string& type, const std::array<int64_t, 4>& strides,
         const std::array<int, 4>& shape, uintptr_t labels, const std::array<int, 2>& size,
         bool align_corners, int ignore_label, uintptr_t counts, uintptr_t wrong, uintptr_t stream) {
        df::count_upsampled_cuda(df::device_pointer<void>(logits), df::element_of(type), strides.data(),
                                 shape[0], shape[1], shape[2], shape[3],
                                 df::device_pointer<const uint8_t>(labels), size[0], size[1], align_corners,
                                 ignore_label, df::device_pointer<int64_t>(counts),
                                 df::device_pointer<uint64_t>(wrong), df::device_pointer<void>(stream));
      },
      arg("logits"), arg("type"), arg("strides"), arg("shape"), arg("labels"), arg("size"),
      arg("align_corners"), arg("ignore_label"), arg("counts"), arg("wrong"), arg("stream"));
  m.def("nvjpeg_missing", &df::nvjpeg_missing, "'' where nvJPEG can decode here, else why not.");
  m.def("nvjpeg_backend", &df::nvjpeg_backend);
  m.def(
      "jpeg_sizes_cuda",
      [](const std::vector<py::buffer>& files) {
        const df::Files all(files);
        py::list sizes;
        for (const df::Size& size : df::jpeg_sizes_cuda(all.data, all.sizes)) {
          sizes.append(py::make_tuple(size.height, size.width));
        }
        return sizes;
      },
      arg("files"));
  m.def(
      "decode_jpegs_cuda",
      [](const std::vector<py::buffer>& files, const std::vector<std::array<int, 2>>& sizes,
         const std::vector<uintptr_t>& out, uintptr_t stream) {
        const df::Files all(files);
        if (sizes.size() != files.size() || out.size() != files.size()) {
          throw py::value_error("files, sizes and out: expected the same length");
        }
        std::vector<df::Size> images;
        std::vector<uint8_t*> targets;
        for (const std::array<int, 2>& size : sizes) images.push_back({size[0], size[1]});
        for (const uintptr_t address : out) targets.push_back(df::device_pointer<uint8_t>(address));
        const py::gil_scoped_release release;
        df::decode_jpegs_cuda(all.data, all.sizes, images, targets, df::device_pointer<void>(stream));
      },
      arg("files"), arg("sizes"), arg("out"), arg("stream"));
}
