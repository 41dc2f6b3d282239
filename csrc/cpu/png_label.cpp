// Label PNG through libdeflate: one inflate call for the whole stream, several times faster than row by row.
//
// Grey and palette, 1 to 8 bits, not interlaced; open() declines anything else, and libpng takes over.
#include "decode.h"

#ifdef DEEPLAB_FAST_HAS_DEFLATE

#include <libdeflate.h>

#include <cstdlib>
#include <cstring>

#include "png_chunks.h"

namespace deeplab_fast {
namespace {

// PNG specification, section 9.4.
int paeth(int left, int up, int corner) {
  const int to_left = std::abs(up - corner), to_up = std::abs(left - corner),
            to_corner = std::abs(left + up - 2 * corner);
  if (to_left <= to_up && to_left <= to_corner) return left;
  return to_up <= to_corner ? up : corner;
}

class FastLabelDecoder : public FastDecoder {
 public:
  explicit FastLabelDecoder(int64_t max_pixels)
      : max_pixels_(max_pixels), inflater_(libdeflate_alloc_decompressor()) {
    if (inflater_ == nullptr) throw std::bad_alloc();
  }
  ~FastLabelDecoder() override { libdeflate_free_decompressor(inflater_); }

  bool takes(const uint8_t* data, size_t size) override {
    if (!is_png(data, size)) return false;
    PngChunks chunks(data, size);
    if (!chunks.next() || !chunks.is("IHDR") || chunks.length != 13) return false;
    const int depth = chunks.body[8], colour = chunks.body[9], interlaced = chunks.body[12];
    return (colour == kPngGrey || colour == kPngPalette) && depth <= 8 && interlaced == 0;
  }

  Size open(const uint8_t* data, size_t size) override {
    file_ = read_png(data, size, max_pixels_);
    size_ = size;
    width_ = file_.width;
    height_ = file_.height;
    depth_ = file_.depth;
    return {static_cast<int>(height_), static_cast<int>(width_)};
  }

  void read(const Window& window, uint8_t* out, ptrdiff_t stride) override {
    join_stream();
    const size_t row_bytes = (width_ * depth_ + 7) / 8;
    const size_t expected = (row_bytes + 1) * height_;
    // Zlib packs at most 1032 to 1: a header that promises more is a lie, found before memory is taken.
    if (expected / 1032 > stream_.size) refuse("not enough image data", size_, size_);
    pixels_.resize(expected);
    size_t got = 0;
    const libdeflate_result result =
        libdeflate_zlib_decompress(inflater_, stream_.data, stream_.size, pixels_.data(), expected, &got);
    if (result == LIBDEFLATE_INSUFFICIENT_SPACE) refuse("too much image data", size_, size_);
    if (result != LIBDEFLATE_SUCCESS) refuse("corrupt image data", size_, size_);
    if (got != expected) refuse("not enough image data", size_, size_);
    unfilter(row_bytes);
    for (int y = window.top; y < window.bottom; ++y, out += stride) {
      const uint8_t* row = pixels_.data() + static_cast<size_t>(y) * (row_bytes + 1) + 1;
      if (depth_ == 8) {
        std::memcpy(out, row + window.left, window.right - window.left);
      } else {
        unpack(row, window, out);
      }
    }
  }

 private:
  // Joins the parts of the compressed pixels where there are several.
  void join_stream() {
    stream_ = file_.stream[0];
    if (file_.stream.size() == 1) return;
    joined_.clear();
    for (const Bytes& part : file_.stream) joined_.insert(joined_.end(), part.data, part.data + part.size);
    stream_ = {joined_.data(), joined_.size()};
  }

  // Undoes the filters in place (PNG specification, section 9); a pixel takes at most one byte.
  void unfilter(size_t row_bytes) {
    std::vector<uint8_t>& zeros = zeros_;
    zeros.assign(row_bytes, 0);
    const uint8_t* above = zeros.data();
    for (size_t y = 0; y < height_; ++y) {
      uint8_t* row = pixels_.data() + y * (row_bytes + 1) + 1;
      switch (row[-1]) {
        case 0:
          break;
        case 1:
          for (size_t x = 1; x < row_bytes; ++x) row[x] = static_cast<uint8_t>(row[x] + row[x - 1]);
          break;
        case 2:
          for (size_t x = 0; x < row_bytes; ++x) row[x] = static_cast<uint8_t>(row[x] + above[x]);
          break;
        case 3:
          for (size_t x = 0; x < row_bytes; ++x) {
            const int left = x > 0 ? row[x - 1] : 0;
            row[x] = static_cast<uint8_t>(row[x] + (left + above[x]) / 2);
          }
          break;
        case 4:
          for (size_t x = 0; x < row_bytes; ++x) {
            const int left = x > 0 ? row[x - 1] : 0, corner = x > 0 ? above[x - 1] : 0;
            row[x] = static_cast<uint8_t>(row[x] + paeth(left, above[x], corner));
          }
          break;
        default:
          refuse("unknown row filter", size_, size_);
      }
      above = row;
    }
  }

  // Samples of fewer than 8 bits, the first in the high bits.
  void unpack(const uint8_t* row, const Window& window, uint8_t* out) const {
    const int mask = (1 << depth_) - 1;
    for (int x = window.left; x < window.right; ++x) {
      const int bit = x * depth_;
      *out++ = static_cast<uint8_t>(row[bit / 8] >> (8 - depth_ - bit % 8) & mask);
    }
  }

  const int64_t max_pixels_;
  libdeflate_decompressor* const inflater_;
  PngFile file_;
  size_t size_ = 0;
  size_t width_ = 0, height_ = 0;
  int depth_ = 8;
  Bytes stream_{nullptr, 0};
  std::vector<uint8_t> joined_, pixels_, zeros_;
};

}  // namespace

std::unique_ptr<FastDecoder> make_fast_label_decoder(int64_t max_pixels) {
  return std::make_unique<FastLabelDecoder>(max_pixels);
}

}  // namespace deeplab_fast

#else

namespace deeplab_fast {

std::unique_ptr<FastDecoder> make_fast_label_decoder(int64_t) { return nullptr; }

}  // namespace deeplab_fast

#endif
