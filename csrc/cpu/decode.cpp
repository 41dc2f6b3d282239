// Chooses the decoder by a file's first bytes, and holds the limits that all of them share.
#include "decode.h"

#include <cstring>

namespace deeplab_fast {

void refuse(const std::string& what, size_t offset, size_t size) {
  throw DecodeError("cannot be decoded at byte " + std::to_string(offset) + " of " + std::to_string(size) +
                    " (" + what + ")");
}

void check_size(int64_t width, int64_t height) {
  if (width * height > kMaxPixels) {
    throw DecodeError(std::to_string(width) + "x" + std::to_string(height) + " pixels; expected at most " +
                      std::to_string(kMaxPixels));
  }
}

namespace {

bool is_jpeg(const uint8_t* data, size_t size) { return size >= 2 && data[0] == 0xFF && data[1] == 0xD8; }

bool is_png(const uint8_t* data, size_t size) {
  return size >= 8 && std::memcmp(data, "\x89PNG\r\n\x1a\n", 8) == 0;
}

class AnyDecoder : public Decoder {
 public:
  explicit AnyDecoder(Content content) : content_(content) {}

  Size open(const uint8_t* data, size_t size) override {
    current_ = nullptr;
    if (size > kMaxBytes)
      throw DecodeError(std::to_string(size) + " bytes; expected at most " + std::to_string(kMaxBytes));
    if (is_png(data, size)) {
      if (content_ == Content::label && !asked_) {
        fast_ = make_fast_label_decoder();
        asked_ = true;
      }
      if (fast_ && fast_->takes(data, size)) {
        current_ = fast_.get();
        return current_->open(data, size);
      }
      if (!png_) png_ = make_png_decoder(content_);
      current_ = png_.get();
    } else if (is_jpeg(data, size)) {
      if (content_ == Content::label)
        throw DecodeError("label is a JPEG, whose values are not kept exactly; expected PNG");
      if (!jpeg_) jpeg_ = make_jpeg_decoder();
      current_ = jpeg_.get();
    } else {
      throw DecodeError(std::string("not a readable image (") + (size == 0 ? "empty" : "unknown format") +
                        "); expected JPEG or PNG");
    }
    return current_->open(data, size);
  }

  void read(const Window& window, uint8_t* out, ptrdiff_t stride) override {
    current_->read(window, out, stride);
  }

 private:
  Content content_;
  std::unique_ptr<Decoder> jpeg_, png_;
  std::unique_ptr<FastDecoder> fast_;
  bool asked_ = false;  // for the fast decoder
  Decoder* current_ = nullptr;
};

}  // namespace

std::unique_ptr<Decoder> make_image_decoder() { return std::make_unique<AnyDecoder>(Content::image); }
std::unique_ptr<Decoder> make_label_decoder() { return std::make_unique<AnyDecoder>(Content::label); }

}  // namespace deeplab_fast
