// Chooses the decoder by a file's first bytes, turns what it gives as EXIF says, and holds the limits.
#include "decode.h"

#include "orientation.h"
#include "png_chunks.h"

namespace deeplab_fast {

void refuse(const std::string& what, size_t offset, size_t size) {
  throw DecodeError("cannot be decoded at byte " + std::to_string(offset) + " of " + std::to_string(size) +
                    " (" + what + ")");
}

void check_size(int64_t width, int64_t height, int64_t max_pixels) {
  if (width > max_pixels / height) {
    throw DecodeError(std::to_string(width) + "x" + std::to_string(height) + " pixels; expected at most " +
                      std::to_string(max_pixels) + " (--max_pixels)");
  }
}

namespace {

class AnyDecoder : public Decoder {
 public:
  AnyDecoder(Content content, const DecodeRules& rules)
      : content_(content),
        rules_(rules),
        fast_(content == Content::label ? make_fast_label_decoder(rules.max_pixels)
                                        : make_baseline_decoder(rules.max_pixels)) {}

  Size open(const uint8_t* data, size_t size) override {
    current_ = &choose(data, size);
    const bool turns = content_ == Content::image && rules_.apply_exif;
    orientation_ = turns ? orientation_of(data, size) : Orientation{};
    stored_ = current_->open(data, size);
    return orientation_.turned(stored_);
  }

  void read(const Window& window, uint8_t* out, ptrdiff_t stride) override {
    if (orientation_.is_plain()) {
      current_->read(window, out, stride);
      return;
    }
    const Window from = orientation_.stored_window(window, stored_);
    const size_t columns = kChannels * static_cast<size_t>(from.right - from.left);
    pixels_.resize(columns * (from.bottom - from.top));
    current_->read(from, pixels_.data(), static_cast<ptrdiff_t>(columns));
    orientation_.turn(pixels_.data(), from, kChannels, out, stride);
  }

 private:
  Decoder& choose(const uint8_t* data, size_t size) {
    if (size > rules_.max_bytes()) {
      throw DecodeError(std::to_string(size) + " bytes; expected at most " +
                        std::to_string(rules_.max_bytes()) + " (--max_pixels raises it)");
    }
    if (is_png(data, size)) {
      if (content_ == Content::label && fast_ && fast_->takes(data, size)) return *fast_;
      if (!png_) png_ = make_png_decoder(content_, rules_.max_pixels);
      return *png_;
    }
    if (is_jpeg(data, size)) {
      if (content_ == Content::label) {
        throw DecodeError("label is a JPEG, whose values are not kept exactly; expected PNG");
      }
      if (fast_->takes(data, size)) return *fast_;
      if (!jpeg_) jpeg_ = make_jpeg_decoder(rules_.max_pixels);
      return *jpeg_;
    }
    throw DecodeError(std::string("not a readable image (") + (size == 0 ? "empty" : "unknown format") +
                      "); expected " + (content_ == Content::label ? "PNG" : "JPEG, PNG, BMP, TIFF or WebP"));
  }

  static constexpr int kChannels = 3;  // of images; labels are not turned

  const Content content_;
  const DecodeRules rules_;
  const std::unique_ptr<FastDecoder> fast_;  // of most files; the others take the rest
  std::unique_ptr<Decoder> jpeg_, png_;
  Decoder* current_ = nullptr;
  Orientation orientation_;
  Size stored_{0, 0};
  std::vector<uint8_t> pixels_;  // of a window that is to be turned
};

}  // namespace

std::unique_ptr<Decoder> make_image_decoder(const DecodeRules& rules) {
  return std::make_unique<AnyDecoder>(Content::image, rules);
}
std::unique_ptr<Decoder> make_label_decoder(const DecodeRules& rules) {
  return std::make_unique<AnyDecoder>(Content::label, rules);
}

}  // namespace deeplab_fast
