// The chunks of a PNG file, and what must hold for them whatever decodes the pixels.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <cstring>
#include <vector>

#include "files.h"

namespace deeplab_fast {

inline uint32_t big_endian(const uint8_t* p) {
  return static_cast<uint32_t>(p[0]) << 24 | static_cast<uint32_t>(p[1]) << 16 |
         static_cast<uint32_t>(p[2]) << 8 | p[3];
}

inline bool is_jpeg(const uint8_t* data, size_t size) {
  return size >= 2 && data[0] == 0xFF && data[1] == 0xD8;
}
inline bool is_png(const uint8_t* data, size_t size) {
  return size >= 8 && std::memcmp(data, "\x89PNG\r\n\x1a\n", 8) == 0;
}

constexpr size_t kPngSignature = 8, kChunkHeader = 8, kChunkChecksum = 4;
constexpr int kPngGrey = 0, kPngPalette = 3;

// Goes from chunk to chunk by their lengths, behind the signature, which is not looked at.
class PngChunks {
 public:
  PngChunks(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  // False at the end, and where a chunk reaches beyond it.
  bool next() {
    at = next_;
    if (size_ < at + kChunkHeader + kChunkChecksum)
      return false;  // also where not even the signature is whole
    length = big_endian(data_ + at);
    if (length > size_ - at - kChunkHeader - kChunkChecksum) return false;
    name = data_ + at + 4;
    body = data_ + at + kChunkHeader;
    next_ = at + kChunkHeader + length + kChunkChecksum;
    return true;
  }

  bool is(const char* other) const { return std::memcmp(name, other, 4) == 0; }
  // The chunk with its header and checksum.
  Bytes whole() const { return {data_ + at, next_ - at}; }

  size_t at = 0, length = 0;
  const uint8_t *name = nullptr, *body = nullptr;

 private:
  const uint8_t* data_;
  size_t size_;
  size_t next_ = kPngSignature;
};

// What a file's pixels need.
struct PngFile {
  size_t width = 0, height = 0;
  int depth = 8, colour = 0;
  bool interlaced = false;
  Bytes palette{nullptr, 0};     // of a palette file: as many entries as its depth can name, at most
  std::vector<Bytes> stream;     // the compressed pixels, in parts
  std::vector<Bytes> essential;  // the whole chunks that hold all of this, in their order
};

// Reads the structure of a whole file and checks every checksum. Throws DecodeError: a chunk is cut off,
// damaged, misplaced, critical and unknown, or missing; or the header names no kind of image that PNG has, or
// more than `max_pixels`.
PngFile read_png(const uint8_t* data, size_t size, int64_t max_pixels);

}  // namespace deeplab_fast
