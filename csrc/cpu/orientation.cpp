#include "orientation.h"

#include <cstring>

#include "jpeg_segments.h"
#include "png_chunks.h"

namespace deeplab_fast {
namespace {

constexpr size_t kTiffHeader = 8, kEntry = 12;
constexpr int kOrientationTag = 0x0112, kShort = 3;

// A TIFF header and its first directory (EXIF 2.32, section 4.5; TIFF 6.0, section 2), which may be hostile.
class Tiff {
 public:
  Tiff(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  // The orientation's value, or 1.
  int orientation() {
    if (size_ < kTiffHeader || (std::memcmp(data_, "II", 2) != 0 && std::memcmp(data_, "MM", 2) != 0))
      return 1;
    big_ = data_[0] == 'M';
    if (word(2) != 42) return 1;
    const size_t directory = static_cast<size_t>(word(big_ ? 4 : 6)) << 16 | word(big_ ? 6 : 4);
    if (directory > size_ - 2) return 1;
    const size_t entries = word(directory);
    for (size_t i = 0, at = directory + 2; i < entries && size_ - at >= kEntry; ++i, at += kEntry) {
      if (word(at) != kOrientationTag) continue;
      const bool is_one_short =
          word(at + 2) == kShort && word(at + (big_ ? 4 : 6)) == 0 && word(at + (big_ ? 6 : 4)) == 1;
      return is_one_short ? word(at + 8) : 1;
    }
    return 1;
  }

 private:
  int word(size_t at) const { return big_ ? data_[at] << 8 | data_[at + 1] : data_[at + 1] << 8 | data_[at]; }

  const uint8_t* data_;
  size_t size_;
  bool big_ = false;
};

int of_jpeg(const uint8_t* data, size_t size) {
  constexpr size_t kPrefix = 6;
  for (JpegSegments segments(data, size); segments.next();) {
    if (segments.marker == 0xE1 && segments.length >= kPrefix &&
        std::memcmp(segments.body, "Exif\0\0", kPrefix) == 0)
      return Tiff(segments.body + kPrefix, segments.length - kPrefix).orientation();
  }
  return 1;
}

int of_png(const uint8_t* data, size_t size) {
  for (PngChunks chunks(data, size); chunks.next();) {
    if (chunks.is("eXIf")) return Tiff(chunks.body, chunks.length).orientation();
  }
  return 1;
}

}  // namespace

Orientation orientation_of(const uint8_t* data, size_t size) {
  switch (is_jpeg(data, size) ? of_jpeg(data, size) : is_png(data, size) ? of_png(data, size) : 1) {
    case 2:
      return {false, false, true};
    case 3:
      return {false, true, true};
    case 4:
      return {false, true, false};
    case 5:
      return {true, false, false};
    case 6:
      return {true, true, false};
    case 7:
      return {true, true, true};
    case 8:
      return {true, false, true};
    default:
      return {};
  }
}

Window Orientation::stored_window(const Window& w, const Size& stored) const {
  Window at = transposed ? Window{w.left, w.right, w.top, w.bottom} : w;
  if (upside_down) at = {stored.height - at.bottom, stored.height - at.top, at.left, at.right};
  if (mirrored) at = {at.top, at.bottom, stored.width - at.right, stored.width - at.left};
  return at;
}

void Orientation::turn(const uint8_t* pixels, const Window& from, int channels, uint8_t* out,
                       ptrdiff_t stride) const {
  const int rows = from.bottom - from.top, columns = from.right - from.left;
  // From one output row, or column, to the next: so many stored pixels.
  const ptrdiff_t down = upside_down ? -columns : columns, across = mirrored ? -1 : 1;
  const uint8_t* first =
      pixels + channels * ((upside_down ? ptrdiff_t{rows - 1} * columns : 0) + (mirrored ? columns - 1 : 0));
  const ptrdiff_t row_step = channels * (transposed ? across : down),
                  step = channels * (transposed ? down : across);
  const int out_rows = transposed ? columns : rows, out_columns = transposed ? rows : columns;
  for (int y = 0; y < out_rows; ++y, out += stride, first += row_step) {
    const uint8_t* at = first;
    for (int x = 0; x < out_columns; ++x, at += step) {
      for (int c = 0; c < channels; ++c) out[ptrdiff_t{channels} * x + c] = at[c];
    }
  }
}

}  // namespace deeplab_fast
