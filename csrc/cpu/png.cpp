// PNG through libpng: images to RGB, labels to class indexes.
#include "decode.h"

#ifdef DEEPLAB_FAST_HAS_PNG

#include <png.h>

#include <csetjmp>
#include <cstdio>
#include <cstring>

namespace deeplab_fast {
namespace {

constexpr png_alloc_size_t kMaxChunk = 8u << 20;  // bytes of one ancillary chunk: text, profiles

class PngDecoder : public Decoder {
 public:
  explicit PngDecoder(Content content) : content_(content) {}
  ~PngDecoder() override { close(); }

  Size open(const uint8_t* data, size_t size) override {
    close();
    data_ = data;
    size_ = size;
    at_ = 0;
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, on_error, on_warning);
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
    if (info_ == nullptr) throw DecodeError("libpng: out of memory");
    if (setjmp(png_jmpbuf(png_))) fail();
    png_set_read_fn(png_, this, on_read);
    png_set_chunk_malloc_max(png_, kMaxChunk);
    // Text, profiles and the like are passed over: libpng would take, and fill, up to 2 GB of memory for a
    // chunk whose header says so, whatever the limit, before it finds that the file is shorter.
    png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
    png_read_info(png_, info_);
    width_ = png_get_image_width(png_, info_);
    height_ = png_get_image_height(png_, info_);
    check_size(width_, height_);
    prepare();
    return {static_cast<int>(height_), static_cast<int>(width_)};
  }

  void read(const Window& window, uint8_t* out, ptrdiff_t stride) override {
    const size_t bytes = png_get_rowbytes(png_, info_);
    const bool interlaced = png_get_interlace_type(png_, info_) != PNG_INTERLACE_NONE;
    rows_.resize(interlaced ? bytes * height_ : bytes);
    if (setjmp(png_jmpbuf(png_))) fail();
    read_rows(window, bytes, interlaced, out, stride);
    close();
  }

 private:
  // Sets up the conversions. Throws where the pixels are not what the content needs.
  void prepare() {
    const int colour = png_get_color_type(png_, info_), depth = png_get_bit_depth(png_, info_);
    if (content_ == Content::label) {
      if ((colour != PNG_COLOR_TYPE_GRAY && colour != PNG_COLOR_TYPE_PALETTE) || depth > 8) {
        const bool coloured = colour & PNG_COLOR_MASK_COLOR, alpha = colour & PNG_COLOR_MASK_ALPHA;
        const char* mode = coloured ? (alpha ? "RGBA" : "RGB") : (alpha ? "LA" : "I;16");
        throw DecodeError(std::string("label has mode ") + mode +
                          "; expected a grey or palette PNG of at most 8 bits whose values are the classes" +
                          (coloured ? "; map its colours to class numbers first" : ""));
      }
      png_set_packing(png_);
      channels_ = 1;
    } else {
      if (depth == 16 && colour == PNG_COLOR_TYPE_GRAY) {
        throw DecodeError("has more than 8 bits a channel (mode I;16); expected 8");
      }
      if (depth == 16) png_set_strip_16(png_);
      if (colour == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png_);
      if (colour == PNG_COLOR_TYPE_GRAY && depth < 8) png_set_expand_gray_1_2_4_to_8(png_);
      if (!(colour & PNG_COLOR_MASK_COLOR)) png_set_gray_to_rgb(png_);
      png_set_strip_alpha(png_);  // a palette's transparency too
      channels_ = 3;
    }
    png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    if (png_get_rowbytes(png_, info_) != static_cast<size_t>(width_) * channels_) {
      throw DecodeError("libpng gives rows of an unexpected layout");
    }
  }

  // No object with a destructor may live here: libpng's errors jump over this function.
  void read_rows(const Window& window, size_t bytes, bool interlaced, uint8_t* out, ptrdiff_t stride) {
    const size_t skipped = static_cast<size_t>(window.left) * channels_;
    const size_t wanted = static_cast<size_t>(window.right - window.left) * channels_;
    const int passes = interlaced ? 7 : 1;
    for (int pass = 0; pass < passes; ++pass) {
      for (int y = 0; y < static_cast<int>(height_); ++y) {
        const bool kept = y >= window.top && y < window.bottom;
        uint8_t* row = interlaced ? rows_.data() + y * bytes : rows_.data();
        uint8_t* target = out + (y - window.top) * stride;
        if (!interlaced && kept && wanted == bytes) row = target;
        png_read_row(png_, row, nullptr);
        if (pass + 1 == passes && kept && row != target) std::memcpy(target, row + skipped, wanted);
      }
    }
    png_read_end(png_, nullptr);  // checks what is left of the stream, its checksum too
  }

  void close() {
    if (png_ != nullptr) png_destroy_read_struct(&png_, &info_, nullptr);
    png_ = nullptr;
    info_ = nullptr;
  }

  [[noreturn]] void fail() {
    close();
    refuse(message_, at_, size_);
  }

  static void on_read(png_structp png, png_bytep out, size_t count) {
    auto* decoder = static_cast<PngDecoder*>(png_get_io_ptr(png));
    if (count > decoder->size_ - decoder->at_) png_error(png, "premature end of the file");
    std::memcpy(out, decoder->data_ + decoder->at_, count);
    decoder->at_ += count;
  }

  [[noreturn]] static void on_error(png_structp png, png_const_charp text) {
    auto* decoder = static_cast<PngDecoder*>(png_get_error_ptr(png));
    std::snprintf(decoder->message_, sizeof decoder->message_, "%s", text);
    png_longjmp(png, 1);
  }

  static void on_warning(png_structp, png_const_charp) {}

  const Content content_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  char message_[256] = "";
  const uint8_t* data_ = nullptr;
  size_t size_ = 0, at_ = 0;
  png_uint_32 width_ = 0, height_ = 0;
  int channels_ = 1;
  std::vector<uint8_t> rows_;
};

}  // namespace

std::unique_ptr<Decoder> make_png_decoder(Content content) { return std::make_unique<PngDecoder>(content); }

}  // namespace deeplab_fast

#else

namespace deeplab_fast {

std::unique_ptr<Decoder> make_png_decoder(Content) { throw DecodeError("this build has no libpng"); }

}  // namespace deeplab_fast

#endif
