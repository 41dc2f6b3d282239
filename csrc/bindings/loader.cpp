// Batches.
#include <cstring>
#include <list>
#include <utility>

#include "bindings.h"

namespace deeplab_fast {
namespace {

template <typename T>
using Table = py::array_t<T, py::array::c_style>;

template <typename T>
void check_columns(const Table<T>& table, py::ssize_t rows, py::ssize_t columns, const char* what) {
  if (table.ndim() != 2 || table.shape(0) != rows || table.shape(1) != columns) {
    throw py::value_error(std::string(what) + ": expected [" + std::to_string(rows) + ", " +
                          std::to_string(columns) + "]");
  }
}

DecodedImage pixels_of(const Array& image) {
  return {image.data(), static_cast<int>(image.shape(0)), static_cast<int>(image.shape(1))};
}

// A loader and the Python objects whose memory its threads use. They are held here, where Python's collector
// of cycles sees that somebody holds them, and cannot take them from a loader that is garbage before it ends.
struct HoldingLoader {
  struct Held {
    int64_t ticket;
    py::object memory;
  };

  std::list<Held> held;  // of batches not yet waited for
  Loader loader;         // declared last: its threads end first
};

// Columns of `extracts`: file, offset, size, checksum of the image, then of the label; of `draws`: scale,
// top, left, flip; of `colours`: 12 a job, row by row, or an empty array. `decoded`: of each job the image's
// pixels, or an empty list. `memory`: what keeps the target's addresses and these pixels alive.
int64_t submit(HoldingLoader& holding, const Table<int64_t>& extracts, const Table<double>& draws,
               const Table<int32_t>& colours, const std::vector<int>& places, uintptr_t images,
               uintptr_t labels, uintptr_t extents, uintptr_t samples, const std::vector<Array>& decoded,
               const py::object& memory) {
  const auto count = static_cast<py::ssize_t>(places.size());
  check_columns(extracts, count, 8, "extracts");
  check_columns(draws, count, 4, "draws");
  if (colours.size() != 0) check_columns(colours, count, 12, "colours");
  std::vector<ColourMatrix> matrices(colours.size() / 12);
  if (!matrices.empty()) std::memcpy(matrices.data(), colours.data(), matrices.size() * sizeof(ColourMatrix));
  if (!decoded.empty() && decoded.size() != places.size())
    throw py::value_error("decoded: expected one a job");
  for (const Array& image : decoded) check_shape(image, 3, "image");
  std::vector<Job> jobs;
  for (py::ssize_t i = 0; i < count; ++i) {
    const int64_t* e = extracts.data(i, 0);
    const double* d = draws.data(i, 0);
    jobs.push_back({{static_cast<int32_t>(e[0]), e[1], e[2], e[3]},
                    {static_cast<int32_t>(e[4]), e[5], e[6], e[7]},
                    {d[0], d[1], d[2], d[3]},
                    matrices.empty() ? nullptr : &matrices[i],
                    decoded.empty() ? DecodedImage{} : pixels_of(decoded[i])});
  }
  const Target target{at_address<uint8_t>(images), at_address<uint8_t>(labels), at_address<int32_t>(extents),
                      at_address<Sample>(samples)};
  const auto held = holding.held.insert(holding.held.end(), {-1, memory});  // before a thread can begin
  try {
    const py::gil_scoped_release release;
    held->ticket = holding.loader.submit(jobs, places, target);
  } catch (...) {
    holding.held.erase(held);
    throw;
  }
  return held->ticket;
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
    case Fault::memory:
      return "memory";
  }
  return "";
}

// None while the batch is not finished; else its failures: (place, whose fault, text).
py::object wait(HoldingLoader& holding, int64_t ticket, double seconds) {
  std::vector<Failure> failures;
  {
    const py::gil_scoped_release release;
    if (!holding.loader.wait(ticket, seconds, &failures)) return py::none();
  }
  holding.held.remove_if([&](const HoldingLoader::Held& held) { return held.ticket == ticket; });
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
  auto* sample = at_address<Sample>(samples);
  for (py::ssize_t i = 0; i < offsets.shape(0); ++i) {
    sample[i] = Sample{};
    sample[i].image_offset = offsets.at(i, 0);
    sample[i].image_room = offsets.at(i, 1);
    sample[i].label_offset = offsets.at(i, 2);
    sample[i].label_room = offsets.at(i, 3);
  }
}

}  // namespace

void bind_loader(py::module_& m) {
  using py::arg;
  m.def(
      "prefer_large_pages",
      [](uintptr_t address, size_t bytes) { prefer_large_pages(at_address<void>(address), bytes); },
      arg("address"), arg("bytes"));
  m.def(
      "crc32",
      [](const py::bytes& data, bool portable) {
        const std::string_view bytes = data;
        const auto* first = reinterpret_cast<const uint8_t*>(bytes.data());
        return portable ? crc32_portable(first, bytes.size()) : crc32(first, bytes.size());
      },
      arg("data"), arg("portable") = false);
  m.attr("SAMPLE_BYTES") = sizeof(Sample);
  m.def("write_samples", &write_samples, arg("samples"), arg("offsets"));
  py::class_<HoldingLoader>(m, "Loader", "Threads that take encoded samples to batches.")
      .def(py::init([](std::vector<std::string> files, const std::vector<std::pair<int64_t, int64_t>>& stamps,
                       int crop_size, double min_scale, double max_scale, bool bicubic, int ignore_label,
                       int classes, int threads, bool apply_exif, int64_t max_pixels) {
             const CropOptions options{crop_size, min_scale, max_scale, bicubic, ignore_label};
             std::vector<Stamp> found;
             for (const auto& [size, written_ns] : stamps) found.push_back({size, written_ns});
             const DecodeRules rules{apply_exif, max_pixels};
             return std::unique_ptr<HoldingLoader>(
                 new HoldingLoader{{}, Loader(std::move(files), found, options, classes, threads, rules)});
           }),
           arg("files"), arg("stamps"), arg("crop_size"), arg("min_scale"), arg("max_scale"), arg("bicubic"),
           arg("ignore_label"), arg("classes"), arg("threads"), arg("apply_exif"), arg("max_pixels"))
      .def("submit", &submit, arg("extracts"), arg("draws"), arg("colours"), arg("places"), arg("images"),
           arg("labels"), arg("extents"), arg("samples"), arg("decoded"), arg("memory"))
      .def(
          "done", [](HoldingLoader& holding, int64_t ticket) { return holding.loader.done(ticket); },
          arg("ticket"))
      .def("wait", &wait, arg("ticket"), arg("seconds"))
      .def("spent", [](const HoldingLoader& holding) {
        const Spent spent = holding.loader.spent();
        return py::make_tuple(spent.read, spent.image, spent.label, spent.augment);
      });
}

}  // namespace deeplab_fast
