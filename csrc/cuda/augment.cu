// A ragged batch of decoded pixels to finished, normalised crops: one launch, a thread for each output pixel.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "../core/normalise.h"
#include "check.h"

namespace deeplab_fast {
namespace {

constexpr int kThreads = 128;

struct Normalisation {
  float mean[3], std[3];
};

__device__ void store(uint8_t* out, uint8_t pixel, float, float) { *out = pixel; }
__device__ float normalised(uint8_t pixel, float mean, float std) {
  return normalise_value(static_cast<float>(pixel), mean, std);
}
__device__ void store(float* out, uint8_t pixel, float mean, float std) {
  *out = normalised(pixel, mean, std);
}
__device__ void store(__half* out, uint8_t pixel, float mean, float std) {
  *out = __float2half_rn(normalised(pixel, mean, std));
}
__device__ void store(__nv_bfloat16* out, uint8_t pixel, float mean, float std) {
  *out = __float2bfloat16_rn(normalised(pixel, mean, std));
}

// The pixel that (y, x) of the crop shows: x counts from the crop's first column that is image.
__device__ void sample_pixel(const uint8_t* image, const Sample& sample, const Taps& rows, int x,
                             bool bicubic, uint8_t rgb[3]) {
  const Crop& crop = sample.crop;
  const int width = crop.kept.right - crop.kept.left;
  const int resized = crop.kept.left + (crop.flip ? width - 1 - x : x);
  const Taps columns = taps_of(source_step(crop.source_width, crop.width), resized, bicubic);
  const int64_t stride = 3 * static_cast<int64_t>(sample.image.right - sample.image.left);
  const uint8_t* row[4];
  for (int k = 0; k < 4; ++k) {
    row[k] = image + (clamp_index(rows.first + k, crop.source_height) - sample.image.top) * stride;
  }
  int16_t sums[4][3];
  for (int k = 0; k < 4; ++k) {
    const int column = 3 * (clamp_index(columns.first + k, crop.source_width) - sample.image.left);
    for (int c = 0; c < 3; ++c) {
      const int at = column + c;
      sums[k][c] = combine_column(rows.weight, row[0][at], row[1][at], row[2][at], row[3][at]);
    }
  }
  for (int c = 0; c < 3; ++c) {
    rgb[c] = combine_row(columns.weight, sums[0][c], sums[1][c], sums[2][c], sums[3][c]);
  }
  if (sample.has_colour) {
    const int r = rgb[0], g = rgb[1], b = rgb[2];
    for (int c = 0; c < 3; ++c) rgb[c] = apply_colour(sample.colour.value[c], r, g, b);
  }
}

__device__ uint8_t sample_label(const uint8_t* label, const Sample& sample, int y, int x) {
  const Crop& crop = sample.crop;
  const int width = crop.kept.right - crop.kept.left;
  const int resized = crop.kept.left + (crop.flip ? width - 1 - x : x);
  const int row =
      nearest_index(source_step(crop.source_height, crop.height), crop.source_height, crop.kept.top + y);
  const int column = nearest_index(source_step(crop.source_width, crop.width), crop.source_width, resized);
  const int64_t stride = sample.label.right - sample.label.left;
  return label[(row - sample.label.top) * stride + column - sample.label.left];
}

// Grid: columns / kThreads, rows, samples.
template <typename T>
__global__ void augment_kernel(const uint8_t* images, const uint8_t* labels, const Sample* samples,
                               CropOptions options, Normalisation normalisation, T* out_images,
                               uint8_t* out_labels, int32_t* extents) {
  const Sample& sample = samples[blockIdx.z];
  const Crop& crop = sample.crop;
  const int x = blockIdx.x * kThreads + threadIdx.x, y = blockIdx.y;
  const int rows = crop.kept.bottom - crop.kept.top, columns = crop.kept.right - crop.kept.left;
  if (y == 0 && x == 0) write_extent(crop, extents + 4 * blockIdx.z);
  __shared__ Taps row_taps;
  if (threadIdx.x == 0 && y < rows) {
    row_taps = taps_of(source_step(crop.source_height, crop.height), crop.kept.top + y, options.bicubic);
  }
  __syncthreads();
  if (x >= options.crop_size) return;
  const int64_t pixel = (static_cast<int64_t>(blockIdx.z) * options.crop_size + y) * options.crop_size + x;
  T* out = out_images + 3 * pixel;
  const int column = x - crop.column;
  if (y >= rows || column < 0 || column >= columns) {
    for (int c = 0; c < 3; ++c) out[c] = T(0);
    out_labels[pixel] = static_cast<uint8_t>(options.ignore_label);
    return;
  }
  uint8_t rgb[3];
  sample_pixel(images + sample.image_offset, sample, row_taps, column, options.bicubic, rgb);
  for (int c = 0; c < 3; ++c) store(out + c, rgb[c], normalisation.mean[c], normalisation.std[c]);
  out_labels[pixel] = sample_label(labels + sample.label_offset, sample, y, column);
}

template <typename T>
void launch(const uint8_t* images, const uint8_t* labels, const Sample* samples, int count,
            const CropOptions& options, const Normalisation& normalisation, void* out_images,
            uint8_t* out_labels, int32_t* extents, cudaStream_t stream) {
  const dim3 grid((options.crop_size + kThreads - 1) / kThreads, options.crop_size, count);
  augment_kernel<T><<<grid, kThreads, 0, stream>>>(images, labels, samples, options, normalisation,
                                                   static_cast<T*>(out_images), out_labels, extents);
  check(cudaGetLastError(), "augment");
}

}  // namespace

std::string cuda_missing() {
  cudaFuncAttributes attributes;
  const cudaError_t status = cudaFuncGetAttributes(&attributes, augment_kernel<uint8_t>);
  if (status == cudaSuccess) return "";
  cudaGetLastError();  // it must not be found by the next launch
  return cudaGetErrorString(status);
}

void augment_cuda(const uint8_t* images, const uint8_t* labels, const Sample* samples, int count,
                  const CropOptions& options, const float mean[3], const float std[3], Element type,
                  void* out_images, uint8_t* out_labels, int32_t* extents, void* stream) {
  if (count == 0) return;
  Normalisation normalisation;
  for (int c = 0; c < 3; ++c) {
    normalisation.mean[c] = mean[c];
    normalisation.std[c] = std[c];
  }
  const auto run = [&](auto launcher) {
    launcher(images, labels, samples, count, options, normalisation, out_images, out_labels, extents,
             static_cast<cudaStream_t>(stream));
  };
  switch (type) {
    case Element::uint8:
      return run(launch<uint8_t>);
    case Element::float16:
      return run(launch<__half>);
    case Element::bfloat16:
      return run(launch<__nv_bfloat16>);
    case Element::float32:
      return run(launch<float>);
  }
}

}  // namespace deeplab_fast
