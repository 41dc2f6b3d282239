// The segments of a JPEG file before its first scan.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace deeplab_fast {

class JpegSegments {
 public:
  // The file must begin with SOI.
  JpegSegments(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  // Finds the next segment; false at a scan, at the end, and at a length that cannot be. Passes over what is
  // no marker, as libjpeg does.
  bool next() {
    while (find_marker()) {
      if (marker == 0xDA || marker == 0xD9) return false;
      const bool has_no_body = (marker >= 0xD0 && marker <= 0xD8) || marker == 0x01;
      if (has_no_body) continue;
      if (size_ - at_ < 2) return false;
      const size_t all = static_cast<size_t>(data_[at_]) << 8 | data_[at_ + 1];
      if (all < 2 || all > size_ - at_) return false;
      body = data_ + at_ + 2;
      length = all - 2;
      at_ += all;
      return true;
    }
    return false;
  }

  uint8_t marker = 0;
  const uint8_t* body = nullptr;
  size_t length = 0;

 private:
  bool find_marker() {
    while (true) {
      while (at_ < size_ && data_[at_] != 0xFF) ++at_;
      while (at_ < size_ && data_[at_] == 0xFF) ++at_;
      if (at_ >= size_) return false;
      marker = data_[at_++];
      if (marker != 0) return true;
    }
  }

  const uint8_t* data_;
  size_t size_;
  size_t at_ = 2;
};

}  // namespace deeplab_fast
