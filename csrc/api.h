// The whole native surface of deeplab_fast: plain C++17, no Python and no torch.
//
// Conventions: the caller allocates and checks; images are RGB, interleaved; arrays arrive as a raw
// pointer, sizes, and strides in elements; device functions also take a stream as void*.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <limits>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/colour.h"
#include "core/crop.h"

namespace deeplab_fast {

// What this build was made with, by name; a part that is missing says why and what to do.
std::map<std::string, std::string> build_info();

// ---------------------------------------------------------------- decode (cpu/decode.cpp, jpeg.cpp, png.cpp)

// How image files become pixels.
struct DecodeRules {
  bool apply_exif = true;                 // turn images as their EXIF orientation says
  int64_t max_pixels = int64_t{1} << 26;  // of an image: beyond it is a mistake or an attack
  // Of a file: 256 MB, or four bytes a pixel.
  size_t max_bytes() const { return static_cast<size_t>(max_pixels > 1 << 26 ? 4 * max_pixels : 1 << 28); }
};

// A file that cannot be decoded. The text says what was wrong and at which byte.
struct DecodeError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Size {
  int height, width;
};

// One file in memory, decoded as an image (RGB) or as a label (class indexes). Reusable, not thread-safe.
class Decoder {
 public:
  virtual ~Decoder() = default;
  // Reads the header. The bytes must stay until read() is done. Throws DecodeError.
  virtual Size open(const uint8_t* data, size_t size) = 0;
  // Writes the window's pixels, [bottom - top, right - left] of 3 or 1 bytes, `stride` bytes from row to
  // row. Call once after open(). Throws DecodeError.
  virtual void read(const Window& window, uint8_t* out, ptrdiff_t stride) = 0;
};

// For images: JPEG and PNG by their first bytes; sizes and windows are those of the turned image. For labels:
// PNG, never turned.
std::unique_ptr<Decoder> make_image_decoder(const DecodeRules& rules = {});
std::unique_ptr<Decoder> make_label_decoder(const DecodeRules& rules = {});

// ---------------------------------------------------------------- augment (cpu/augment.cpp)

// How the outputs of one row are gathered from the row of column sums.
struct RowPlan {
  int values = 0;  // outputs: 3 a pixel
  bool bicubic = true;
  const Taps* taps = nullptr;  // one a pixel; `first` counts from the row's first pixel
  // Of the widest vector loop: a table for each 16 outputs, unless a block reads pixels too far apart.
  bool blocked = false;
  std::vector<int32_t> base;
  std::vector<int16_t> tables;
};

// Source pixels in memory: those of `window`, the first one at `data`.
struct Pixels {
  const uint8_t* data;
  ptrdiff_t stride;  // bytes from row to row
  Window window;
};

// Buffers that a thread keeps between samples.
struct AugmentScratch {
  std::vector<Taps> columns;
  std::vector<int16_t> sums;  // one row of column sums, its border repeated
  std::vector<int32_t> label_columns;
  RowPlan plan;
};

// The window `crop.kept` of the resized image, uint8 [rows, columns, 3], flipped where the crop is.
void resample_image(const Pixels& image, const Crop& crop, bool bicubic, AugmentScratch& scratch,
                    uint8_t* out, ptrdiff_t out_stride);
// The same of the label, to the nearest pixel, uint8 [rows, columns].
void resample_label(const Pixels& label, const Crop& crop, AugmentScratch& scratch, uint8_t* out,
                    ptrdiff_t out_stride);
// A whole sample: out_image uint8 [S, S, 3], out_label uint8 [S, S], padded with 0 and the ignore label.
// `colour` is applied to the image's pixels, not to the padding; may be null.
void augment(const Pixels& image, const Pixels& label, const Crop& crop, const CropOptions& options,
             const ColourMatrix* colour, AugmentScratch& scratch, uint8_t* out_image, uint8_t* out_label);
// The samples of a ragged batch (see Target), one after the other; out as augment_cuda's, uint8.
void augment_ragged(const uint8_t* images, const uint8_t* labels, const Sample* samples, int count,
                    const CropOptions& options, uint8_t* out_images, uint8_t* out_labels, int32_t* extents);
// The instruction set that the loops run with, such as "AVX-512"; `limit` ("generic", "AVX2", "AVX-512")
// holds it down for tests.
std::string vector_extension();
void limit_vector_extension(const std::string& limit);

// ---------------------------------------------------------------- normalise (cpu/normalise.cpp)

// (pixel - mean) / std of images uint8 [N, H, W, 3] within their extents int32 [N, 4], 0 beyond: fp32 [N, H,
// W, 3]. The extents must lie within the images.
void normalise(const uint8_t* images, const int32_t* extents, int count, int height, int width,
               const float mean[3], const float std[3], float* out);

// ---------------------------------------------------------------- confusion matrix (cpu/confusion.cpp)

enum class Integer { uint8, int8, int16, int32, int64 };

// A run of integers.
struct Integers {
  const void* data;
  Integer type;
};

// What could not be counted: the first such value in the order of the pixels.
struct OutOfRange {
  bool found = false;
  bool in_labels = true;  // else in the predictions
  int64_t index = 0, value = 0;
};

// Adds to counts[label * classes + prediction], int64, for `pixels` pairs. Pairs out of range are left out.
OutOfRange count_pairs(const Integers& labels, const Integers& predictions, int64_t pixels, int classes,
                       int64_t ignore_label, int64_t* counts);

// ---------------------------------------------------------------- from low-resolution logits

// Logits [count, h, w, classes], upsampled bilinearly to [count, height, width, classes]; contiguous.
struct UpsampleShape {
  int count, h, w, classes, height, width;
  bool align_corners;
};

// Sums over the pixels that count, and labels that are neither a class nor the ignore label: how many, and
// the largest (the smallest number there is where there is none).
struct CrossEntropy {
  double total = 0.0, weight = 0.0;
  int64_t bad_count = 0, bad_value = std::numeric_limits<int64_t>::min();
};

struct PixelSize {
  int height, width;
};

// A batch's scores fp32 [images, h, w, classes] seen at one scale: padded squares of side `size`, of which
// the top left `extents` [images] is image.
struct ScoresView {
  const float* scores;
  int h, w, size;
  const PixelSize* extents;
};

// The class of each pixel of each image at its size in `targets`, one image after the other
// (cpu/upsample_argmax.cpp): scores upsampled to the square, softmax, the extent resized with half-pixel
// centres, views summed, the largest taken, the lower class in a tie. At most 256 classes.
void upsample_argmax(const std::vector<ScoresView>& views, int classes, const std::vector<PixelSize>& targets,
                     bool align_corners, int threads, uint8_t* out);

// Softmax cross-entropy of the upsampled logits and, in the same sweep, its gradient with respect to the
// logits (cpu/upsample_ce.cpp). Logits fp32 [N, h, w, C], labels uint8 or int64 [N, H, W], class_weights fp32
// [C] or null for ones, gradient fp32 [N, h, w, C], written; 2 <= C <= 256. The same bits for any number of
// threads; other bits on processors with other vector instructions.
CrossEntropy upsample_ce(const float* logits, const UpsampleShape& shape, const Integers& labels,
                         int64_t ignore_label, const float* class_weights, float smoothing, int threads,
                         float* gradient);
// Each pixel's loss, 0 where it does not count: losses fp32 [N, H, W]. The sums are left at 0.
CrossEntropy upsample_ce_per_pixel(const float* logits, const UpsampleShape& shape, const Integers& labels,
                                   int64_t ignore_label, int threads, float* losses);

// ---------------------------------------------------------------- loader (cpu/loader.cpp)

// Python's zlib.crc32 (cpu/crc32.cpp): libdeflate's where it was built in. The portable one is for tests.
uint32_t crc32(const uint8_t* data, size_t size);
uint32_t crc32_portable(const uint8_t* data, size_t size);

// Bytes of a file from `offset`, 0 or more; size -1: all of it. `checksum` is their CRC-32, or -1 where it is
// not known.
struct Extract {
  int32_t file;
  int64_t offset, size, checksum;
};

// An image's pixels that the caller decoded, uint8 [height, width, 3], and keeps until the job is done.
struct DecodedImage {
  const uint8_t* pixels;
  int height, width;
};

struct Job {
  Extract image, label;
  Draws draws;
  const ColourMatrix* colour;  // copied; may be null
  DecodedImage decoded;        // instead of the image's bytes where its pixels are not null
};

// Asks the system for large pages under memory not yet used: a batch is otherwise thousands of page faults.
void prefer_large_pages(void* memory, size_t bytes);

// Where a batch goes. Either finished crops: images uint8 [N, S, S, 3], labels uint8 [N, S, S], extents int32
// [N, 4]; or, with `samples`, the source pixels that the crops need: `images` and `labels` are the ragged
// memory, whose parts begin at the samples' offsets.
struct Target {
  uint8_t* images;
  uint8_t* labels;
  int32_t* extents;
  Sample* samples;
};

enum class Fault { image, label, size, value, memory };

// Why a job could not be done. `index` is its place in the target.
struct Failure {
  int index;
  Fault fault;
  std::string text;
};

// Seconds that all threads together spent.
struct Spent {
  double read, image, label, augment;
};

// What tells a file from what it was: its size, and when it was last written.
struct Stamp {
  int64_t size, written_ns;
  bool operator==(const Stamp& other) const { return size == other.size && written_ns == other.written_ns; }
};

// Threads that take jobs to batches. A batch does not depend on their number.
class Loader {
 public:
  // Files are named once. Those of which a part is wanted stay open, others are opened at each use.
  // `stamps`: what each file was when its parts were found, or nothing. threads = 0: the work is done in
  // wait().
  // Throws std::invalid_argument for numbers that are out of range, as submit() does. Addresses and places
  // are the caller's to check.
  Loader(std::vector<std::string> files, const std::vector<Stamp>& stamps, const CropOptions& options,
         int classes, int threads, const DecodeRules& rules = {});
  ~Loader();  // drops what is not begun, waits for what is
  // The target's memory must stay until wait() or the destructor has returned.
  // Job i becomes sample places[i] of the target.
  int64_t submit(const std::vector<Job>& jobs, const std::vector<int>& places, const Target& target);
  bool done(int64_t ticket);
  // Whether the batch is finished, after at most `seconds`; its failures, in the order of the jobs, once it
  // is.
  bool wait(int64_t ticket, double seconds, std::vector<Failure>* failures);
  Spent spent() const;

 private:
  struct State;
  void stop();
  std::unique_ptr<State> state_;
};

// ---------------------------------------------------------------- CUDA (cuda/)
//
// Pointers are device pointers unless said otherwise. All throw DeviceError: what CUDA said or, in a build
// without CUDA (cuda/unavailable.cpp), why. Nothing here waits for the device.

struct DeviceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class Element { uint8, float16, bfloat16, float32 };

// "" where this build's kernels run on the current device, else why not: no such device code, an older
// driver.
std::string cuda_missing();

// One launch for a ragged batch (see Target): `samples` on the device. out_images [N, S, S, 3] of
// `type`: uint8 as it is, or (pixel - mean) / std, 0 in the padding. out_labels uint8
// [N, S, S], extents int32 [N, 4]. mean and std are host arrays in RGB order.
void augment_cuda(const uint8_t* images, const uint8_t* labels, const Sample* samples, int count,
                  const CropOptions& options, const float mean[3], const float std[3], Element type,
                  void* out_images, uint8_t* out_labels, int32_t* extents, void* stream);

// As count_pairs. `wrong` uint64: the smallest index of a pair out of range; set it to all ones before.
void count_pairs_cuda(const Integers& labels, const Integers& predictions, int64_t pixels, int classes,
                      int64_t ignore_label, int64_t* counts, uint64_t* wrong, void* stream);

// 1x1 convolutions with BatchNorm's share in the epilogue (cuda/gemm/, by CUTLASS, for Hopper alone). Rows
// are pixels; all maps are [rows, channels], contiguous, float16 or bfloat16, weights [out, in] of the same
// type; both numbers of channels are multiples of 8. `parts` fp32 has a part for each 128 rows, in order. The
// same bits every time.

// "" where the build has them and they run on the current device, else why not.
std::string gemm_missing();

// A BatchNorm and its input: x [rows, in]; mean, biased variance, weight and bias fp32 [in].
struct NormInput {
  const void* x;
  const float *mean, *variance, *weight, *bias;
  float eps;
};

// y = a w^T [rows, out]; parts [parts, 3, out]: count, mean and sum of squared deviations of what is stored.
void conv1x1_cuda(Element type, const void* a, const void* weight, void* y, float* parts, int rows, int in,
                  int out, void* stream);

// Where the pixels of a row's 3x3 convolution lie: stride 1, `rate` apart, at most 15. Rows are [images,
// height, width], or [height, width, images] where pixel_major.
struct ConvWindow {
  int images, height, width, rate;
  bool pixel_major;
};

// The same of a 3x3 convolution, bfloat16 alone; the weights [out, 3, 3, in], which is torch's channels-last.
void conv3x3_cuda(Element type, const void* a, const void* weight, void* y, float* parts,
                  const ConvWindow& window, int in, int out, void* stream);

// The gradient of z = relu(norm(x) (+ residual)) whose convolution has the gradient dy: dz = dy w where z >
// 0, else 0 [rows, in], which is the gradient before the ReLU. parts [parts, 2, in]: sums of dz and of dz *
// x-hat. With `activation`, z itself, dz = dy w + added where it is > 0; without, both are null and z is made
// again from x.
void conv1x1_gradient_cuda(Element type, const void* dy, const void* weight, const NormInput& norm,
                           const void* added, const void* activation, void* dz, float* parts, int rows,
                           int in, int out, void* stream);

// The same of a 3x3 convolution, of a z without residual.
void conv3x3_gradient_cuda(Element type, const void* dy, const void* weight, const NormInput& norm, void* dz,
                           float* parts, const ConvWindow& window, int in, int out, void* stream);

}  // namespace deeplab_fast
