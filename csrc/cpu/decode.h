// What jpeg.cpp and png.cpp give to decode.cpp.
#pragma once

#include "../api.h"

namespace deeplab_fast {

enum class Content { image, label };

// Throw DecodeError with the build's reason where their library was not there.
std::unique_ptr<Decoder> make_jpeg_decoder(int64_t max_pixels = DecodeRules{}.max_pixels);
std::unique_ptr<Decoder> make_png_decoder(Content content, int64_t max_pixels = DecodeRules{}.max_pixels);

// A decoder for some files only.
class FastDecoder : public Decoder {
 public:
  // Whether it can decode this file, which may be any bytes; open() may follow if so.
  virtual bool takes(const uint8_t* data, size_t size) = 0;
};
std::unique_ptr<FastDecoder> make_baseline_decoder(int64_t max_pixels = DecodeRules{}.max_pixels);
// Null where its library was not there.
std::unique_ptr<FastDecoder> make_fast_label_decoder(int64_t max_pixels = DecodeRules{}.max_pixels);

// "cannot be decoded at byte 12 of 3400 (<what>)"
[[noreturn]] void refuse(const std::string& what, size_t offset, size_t size);
// Throws where an image is beyond the limit.
void check_size(int64_t width, int64_t height, int64_t max_pixels);

}  // namespace deeplab_fast
