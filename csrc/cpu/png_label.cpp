// Label PNG through libdeflate: one inflate call for the whole stream, several times faster than row by row.
//
// Grey and palette, 1 to 8 bits, not interlaced; open() declines anything else, and libpng takes over.
#include "decode.h"

#ifdef DEEPLAB_FAST_HAS_DEFLATE

#include <libdeflate.h>

#include <cstdlib>
#include <cstring>

namespace deeplab_fast {
namespace {

uint32_t big_endian(const uint8_t* p) {
  return static_cast<uint32_t>(p[0]) << 24 | static_cast<uint32_t>(p[1]) << 16 |
         static_cast<uint32_t>(p[2]) << 8 | p[3];
}

constexpr size_t kSignature = 8, kChunkHeader = 8, kChecksum = 4, kHeaderChunk = 13;
constexpr int kGrey = 0, kPalette = 3;

// PNG specification, section 9.4.
int paeth(int left, int up, int corner) {
  const int to_left = std::abs(up - corner), to_up = std::abs(left - corner),
            to_corner = std::abs(left + up - 2 * corner);
  if (to_left <= to_up && to_left <= to_corner) return left;
  return to_up <= to_corner ? up : corner;
}

class FastLabelDecoder : public FastDecoder {
 public:
  FastLabelDecoder() : inflater_(libdeflate_alloc_decompressor()) {
    if (inflater_ == nullptr) throw std::bad_alloc();
  }
  ~FastLabelDecoder() override { libdeflate_free_decompressor(inflater_); }

  bool takes(const uint8_t* data, size_t size) override {
    if (size < kSignature + kChunkHeader + kHeaderChunk) return false;
    const uint8_t* header = data + kSignature + kChunkHeader;
    const bool is_header =
        big_endian(data + kSignature) == kHeaderChunk && std::memcmp(header - 4, "IHDR", 4) == 0;
    const int depth = header[8], colour = header[9];
    const bool depth_fits = depth == 1 || depth == 2 || depth == 4 || depth == 8;
    const bool plain = header[10] == 0 && header[11] == 0 && header[12] == 0;
    return is_header && (colour == kGrey || colour == kPalette) && depth_fits && plain;
  }

  Size open(const uint8_t* data, size_t size) override {
    data_ = data;
    size_ = size;
    const uint8_t* header = data + kSignature + kChunkHeader;
    width_ = big_endian(header);
    height_ = big_endian(header + 4);
    depth_ = header[8];
    if (width_ == 0 || height_ == 0 || width_ > INT32_MAX || height_ > INT32_MAX) {
      refuse("the image has no pixels, or too many", kSignature + kChunkHeader, size);
    }
    check_size(static_cast<int64_t>(width_), static_cast<int64_t>(height_));
    return {static_cast<int>(height_), static_cast<int>(width_)};
  }

  void read(const Window& window, uint8_t* out, ptrdiff_t stride) override {
    collect_stream();
    const size_t row_bytes = (width_ * depth_ + 7) / 8;
    const size_t expected = (row_bytes + 1) * height_;
    // Zlib packs at most 1032 to 1: a header that promises more is a lie, found before memory is taken.
    if (expected / 1032 > stream_size_) refuse("not enough image data", size_, size_);
    pixels_.resize(expected);
    size_t got = 0;
    const libdeflate_result result =
        libdeflate_zlib_decompress(inflater_, stream_, stream_size_, pixels_.data(), expected, &got);
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
  // Finds the image data, checks the checksums of all chunks on the way, and joins the parts where there are
  // several.
  void collect_stream() {
    size_t parts = 0;
    bool has_palette = false;
    joined_.clear();
    stream_ = nullptr;
    stream_size_ = 0;
    size_t at = kSignature;
    while (true) {
      if (size_ - at < kChunkHeader + kChecksum) refuse("premature end of the file", size_, size_);
      const size_t length = big_endian(data_ + at);
      if (length > size_ - at - kChunkHeader - kChecksum) refuse("premature end of the file", size_, size_);
      const uint8_t *name = data_ + at + 4, *body = data_ + at + kChunkHeader;
      if (libdeflate_crc32(0, name, length + 4) != big_endian(body + length)) {
        refuse(std::string("wrong checksum of chunk ") + printable(name), at, size_);
      }
      if (std::memcmp(name, "IEND", 4) == 0) break;
      if (std::memcmp(name, "PLTE", 4) == 0) has_palette = true;
      if (std::memcmp(name, "IDAT", 4) == 0) {
        if (parts++ == 0) {
          stream_ = body;
          stream_size_ = length;
        } else {
          if (parts == 2) joined_.assign(stream_, stream_ + stream_size_);
          joined_.insert(joined_.end(), body, body + length);
        }
      }
      at += kChunkHeader + length + kChecksum;
    }
    if (parts == 0) refuse("no image data", at, size_);
    if (data_[kSignature + kChunkHeader + 9] == kPalette && !has_palette) refuse("no palette", at, size_);
    if (parts > 1) {
      stream_ = joined_.data();
      stream_size_ = joined_.size();
    }
  }

  static std::string printable(const uint8_t* name) {
    std::string text;
    for (int i = 0; i < 4; ++i) text += name[i] >= 32 && name[i] < 127 ? static_cast<char>(name[i]) : '?';
    return text;
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

  libdeflate_decompressor* const inflater_;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
  size_t width_ = 0, height_ = 0;
  int depth_ = 8;
  const uint8_t* stream_ = nullptr;
  size_t stream_size_ = 0;
  std::vector<uint8_t> joined_, pixels_, zeros_;
};

}  // namespace

std::unique_ptr<FastDecoder> make_fast_label_decoder() { return std::make_unique<FastLabelDecoder>(); }

}  // namespace deeplab_fast

#else

namespace deeplab_fast {

std::unique_ptr<FastDecoder> make_fast_label_decoder() { return nullptr; }

}  // namespace deeplab_fast

#endif
