#include "png_chunks.h"

#include <string>

#include "../api.h"
#include "decode.h"

namespace deeplab_fast {
namespace {

bool is_letter(uint8_t c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

std::string printable(const uint8_t* name) {
  std::string text;
  for (int i = 0; i < 4; ++i) text += name[i] >= 32 && name[i] < 127 ? static_cast<char>(name[i]) : '?';
  return text;
}

// PNG specification, table 11.1.
bool has_depth(int colour, int depth) {
  switch (colour) {
    case kPngGrey:
      return depth == 1 || depth == 2 || depth == 4 || depth == 8 || depth == 16;
    case kPngPalette:
      return depth == 1 || depth == 2 || depth == 4 || depth == 8;
    case 2:
    case 4:
    case 6:
      return depth == 8 || depth == 16;
    default:
      return false;
  }
}

class Reader {
 public:
  Reader(const uint8_t* data, size_t size, int64_t max_pixels)
      : size_(size), max_pixels_(max_pixels), chunks_(data, size) {}

  PngFile read() {
    while (true) {
      if (!chunks_.next()) refuse("premature end of the file", size_, size_);
      check_chunk();
      if (file_.width == 0 && !chunks_.is("IHDR")) stop("no header");
      if (chunks_.is("IHDR")) {
        header();
      } else if (chunks_.is("PLTE")) {
        palette();
      } else if (chunks_.is("IDAT")) {
        if (data_ended_) stop("image data in two places");
        file_.stream.push_back({chunks_.body, chunks_.length});
        file_.essential.push_back(chunks_.whole());
        continue;
      } else if (chunks_.is("IEND")) {
        break;
      } else if ((chunks_.name[0] & 32) == 0) {
        stop("unknown critical chunk " + printable(chunks_.name));
      }
      data_ended_ = !file_.stream.empty();
    }
    file_.essential.push_back(chunks_.whole());
    if (file_.stream.empty()) stop("no image data");
    return file_;
  }

 private:
  [[noreturn]] void stop(const std::string& what) { refuse(what, chunks_.at, size_); }

  void check_chunk() {
    for (int i = 0; i < 4; ++i) {
      if (!is_letter(chunks_.name[i])) stop("invalid chunk type " + printable(chunks_.name));
    }
    if (crc32(chunks_.name, chunks_.length + 4) != big_endian(chunks_.body + chunks_.length)) {
      stop("wrong checksum of chunk " + printable(chunks_.name));
    }
  }

  void header() {
    const uint8_t* body = chunks_.body;
    if (file_.width != 0 || chunks_.length != 13) stop("invalid header");
    file_.width = big_endian(body);
    file_.height = big_endian(body + 4);
    file_.depth = body[8];
    file_.colour = body[9];
    file_.interlaced = body[12] == 1;
    if (file_.width == 0 || file_.height == 0 || file_.width > INT32_MAX || file_.height > INT32_MAX) {
      stop("the image has no pixels, or too many");
    }
    if (!has_depth(file_.colour, file_.depth) || body[10] != 0 || body[11] != 0 || body[12] > 1)
      stop("invalid header");
    check_size(static_cast<int64_t>(file_.width), static_cast<int64_t>(file_.height), max_pixels_);
    file_.essential.push_back(chunks_.whole());
  }

  // In other files it is a suggestion, and passed over.
  void palette() {
    if (file_.colour != kPngPalette) return;
    if (!file_.stream.empty() || file_.palette.size != 0) stop("misplaced palette");
    if (chunks_.length == 0 || chunks_.length % 3 != 0 || chunks_.length > 768) stop("invalid palette");
    const size_t most = size_t{3} << file_.depth;
    file_.palette = {chunks_.body, chunks_.length < most ? chunks_.length : most};
    file_.essential.push_back(chunks_.whole());
  }

  const size_t size_;
  const int64_t max_pixels_;
  PngChunks chunks_;
  PngFile file_;
  bool data_ended_ = false;
};

}  // namespace

PngFile read_png(const uint8_t* data, size_t size, int64_t max_pixels) {
  PngFile file = Reader(data, size, max_pixels).read();
  if (file.colour == kPngPalette && file.palette.size == 0) refuse("no palette", size, size);
  return file;
}

}  // namespace deeplab_fast
