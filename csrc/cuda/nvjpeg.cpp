// JPEG on the GPU through nvJPEG, found at run time: neither its header nor the library is needed to build.
#include <dlfcn.h>

#include <map>
#include <mutex>

#include "check.h"

namespace deeplab_fast {
namespace {

// The part of nvJPEG's C interface that is used here (its documentation, "nvJPEG API reference").
using Handle = void*;
using State = void*;
struct Destination {
  unsigned char* channel[4];
  size_t pitch[4];
};
constexpr int kBackendDefault = 0, kBackendHardware = 3;
constexpr int kInterleavedRgb = 5;

struct Interface {
  int (*create)(int backend, void* device_allocator, void* pinned_allocator, unsigned flags,
                Handle*) = nullptr;
  int (*create_state)(Handle, State*) = nullptr;
  int (*image_info)(Handle, const unsigned char*, size_t, int* channels, int* subsampling, int* widths,
                    int* heights) = nullptr;
  int (*initialise)(Handle, State, int batch, int threads, int format) = nullptr;
  int (*decode)(Handle, State, const unsigned char* const*, const size_t*, Destination*,
                cudaStream_t) = nullptr;
};

struct Nvjpeg {
  Interface call;
  Handle handle = nullptr;
  State state = nullptr;
  std::string missing, backend;
  std::mutex mutex;  // one batch at a time: the state holds it

  Nvjpeg() { missing = load(); }

  // Of the libraries that are there, the first that starts.
  std::string load() {
    std::string reason = "libnvjpeg.so was not found; it comes with the CUDA toolkit";
    for (const char* name : {"libnvjpeg.so.13", "libnvjpeg.so.12", "libnvjpeg.so.11", "libnvjpeg.so"}) {
      void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
      if (library == nullptr) continue;
      reason = start(library);
      if (reason.empty()) break;
    }
    return reason;
  }

  std::string start(void* library) {
    const bool complete = find(library, "nvjpegCreateEx", &call.create) &&
                          find(library, "nvjpegJpegStateCreate", &call.create_state) &&
                          find(library, "nvjpegGetImageInfo", &call.image_info) &&
                          find(library, "nvjpegDecodeBatchedInitialize", &call.initialise) &&
                          find(library, "nvjpegDecodeBatched", &call.decode);
    if (!complete) return "libnvjpeg.so lacks a function that is needed; expected CUDA 11 or newer";
    // The hardware engine, where there is one, decodes beside the multiprocessors.
    backend = "hardware engine";
    int status = call.create(kBackendHardware, nullptr, nullptr, 0, &handle);
    if (status != 0) {
      backend = "CUDA";
      status = call.create(kBackendDefault, nullptr, nullptr, 0, &handle);
    }
    if (status == 0) status = call.create_state(handle, &state);
    return status == 0 ? "" : "nvJPEG does not start (status " + std::to_string(status) + ")";
  }

  template <typename Function>
  static bool find(void* library, const char* name, Function* function) {
    *function = reinterpret_cast<Function>(dlsym(library, name));
    return *function != nullptr;
  }
};

// Of the current device, to which its handle belongs.
Nvjpeg& nvjpeg() {
  static std::mutex mutex;
  static auto* instances = new std::map<int, Nvjpeg>;  // never destroyed: the driver may be gone at exit
  int device = 0;
  cudaGetDevice(&device);
  const std::lock_guard<std::mutex> guard(mutex);
  return (*instances)[device];
}

void require() {
  if (!nvjpeg().missing.empty()) throw DeviceError(nvjpeg().missing);
}

}  // namespace

std::string nvjpeg_missing() { return nvjpeg().missing; }
std::string nvjpeg_backend() { return nvjpeg().backend; }

std::vector<Size> jpeg_sizes_cuda(const std::vector<const uint8_t*>& data, const std::vector<size_t>& sizes) {
  require();
  std::vector<Size> found;
  for (size_t i = 0; i < data.size(); ++i) {
    int channels = 0, subsampling = 0, widths[4] = {0}, heights[4] = {0};
    const int status = nvjpeg().call.image_info(nvjpeg().handle, data[i], sizes[i], &channels, &subsampling,
                                                widths, heights);
    if (status != 0) {
      throw DecodeError("file " + std::to_string(i) + ": nvJPEG cannot read its header (status " +
                        std::to_string(status) + ")");
    }
    if (int64_t{widths[0]} * heights[0] > DecodeRules{}.max_pixels) {
      throw DecodeError("file " + std::to_string(i) + ": more than " +
                        std::to_string(DecodeRules{}.max_pixels) + " pixels");
    }
    found.push_back({heights[0], widths[0]});
  }
  return found;
}

void decode_jpegs_cuda(const std::vector<const uint8_t*>& data, const std::vector<size_t>& sizes,
                       const std::vector<Size>& images, const std::vector<uint8_t*>& out, void* stream) {
  require();
  const int count = static_cast<int>(data.size());
  if (count == 0) return;
  std::vector<Destination> destinations(count);
  for (int i = 0; i < count; ++i) {
    destinations[i] = {};
    destinations[i].channel[0] = out[i];
    destinations[i].pitch[0] = 3 * static_cast<size_t>(images[i].width);
  }
  const std::lock_guard<std::mutex> guard(nvjpeg().mutex);
  int status = nvjpeg().call.initialise(nvjpeg().handle, nvjpeg().state, count, 1, kInterleavedRgb);
  if (status == 0) {
    status = nvjpeg().call.decode(nvjpeg().handle, nvjpeg().state, data.data(), sizes.data(),
                                  destinations.data(), static_cast<cudaStream_t>(stream));
  }
  if (status != 0)
    throw DecodeError("nvJPEG cannot decode the batch (status " + std::to_string(status) + ")");
  check(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)), "nvJPEG");
}

}  // namespace deeplab_fast
