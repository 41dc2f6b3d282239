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
  explicit AnyDecoder(Content content)
      : content_(content),
        fast_(content == Content::label ? make_fast_label_decoder() : make_baseline_decoder()) {}

  Size open(const uint8_t* data, size_t size) override {
    current_ = &choose(data, size);
    return current_->open(data, size);
  }

  void read(const Window& window, uint8_t* out, ptrdiff_t stride) override {
    current_->read(window, out, stride);
  }

 private:
  Decoder& choose(const uint8_t* data, size_t size) {
    if (size > kMaxBytes) {
      throw DecodeError(std::to_string(size) + " bytes; expected at most " + std::to_string(kMaxBytes));
    }
    if (is_png(data, size)) {
      if (content_ == Content::label && fast_ && fast_->takes(data, size)) return *fast_;
      if (!png_) png_ = make_png_decoder(content_);
      return *png_;
    }
    if (is_jpeg(data, size)) {
      if (content_ == Content::label) {
        throw DecodeError("label is a JPEG, whose values are not kept exactly; expected PNG");
      }
      if (fast_->takes(data, size)) return *fast_;
      if (!jpeg_) jpeg_ = make_jpeg_decoder();
      return *jpeg_;
    }
    throw DecodeError(std::string("not a readable image (") + (size == 0 ? "empty" : "unknown format") +
                      "); expected JPEG or PNG");
  }

  const Content content_;
  const std::unique_ptr<FastDecoder> fast_;  // of most files; the others take the rest
  std::unique_ptr<Decoder> jpeg_, png_;
  Decoder* current_ = nullptr;
};

}  // namespace

std::unique_ptr<Decoder> make_image_decoder() { return std::make_unique<AnyDecoder>(Content::image); }
std::unique_ptr<Decoder> make_label_decoder() { return std::make_unique<AnyDecoder>(Content::label); }

}  // namespace deeplab_fast
