// The EXIF orientation of a file: which of the eight ways its pixels are to be turned for the eye.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "../api.h"

namespace deeplab_fast {

// A turned image from the stored one: the axes are exchanged first, then read backwards.
struct Orientation {
  bool transposed = false;   // rows are the stored columns
  bool upside_down = false;  // stored rows are read from the last
  bool mirrored = false;     // stored columns are read from the last
  bool is_plain() const { return !transposed && !upside_down && !mirrored; }

  // The stored image's size to the turned one's, or back.
  Size turned(const Size& size) const { return transposed ? Size{size.width, size.height} : size; }
  // The stored pixels behind a window of the turned image; `stored` is the size as stored.
  Window stored_window(const Window& window, const Size& stored) const;
  // Writes a stored window's pixels, rows without gaps, turned: `channels` bytes a pixel.
  void turn(const uint8_t* pixels, const Window& from, int channels, uint8_t* out, ptrdiff_t stride) const;
};

// Of JPEG (the first APP1 segment that begins "Exif") and PNG (eXIf). Plain where there is none, where it is
// not 1 to 8, or where what should hold it is damaged.
Orientation orientation_of(const uint8_t* data, size_t size);

}  // namespace deeplab_fast
