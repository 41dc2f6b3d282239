// PNG through libpng: images to RGB, labels to class indexes.
#include "decode.h"

#ifdef DEEPLAB_FAST_HAS_PNG

#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include "png_chunks.h"

namespace deeplab_fast {
namespace {

class PngDecoder : public Decoder {
 public:
  PngDecoder(Content content, int64_t max_pixels) : content_(content), max_pixels_(max_pixels) {}
  ~PngDecoder() override { close(); }

  Size open(const uint8_t* data, size_t size) override {
    close();
    file_ = read_png(data, size, max_pixels_);
    data_ = data;
    size_ = size;
    piece_ = at_ = 0;
    palette_fits_ = true;
    no_memory_ = false;
    png_ =
        png_create_read_struct_2(PNG_LIBPNG_VER_STRING, this, on_error, on_warning, this, on_malloc, on_free);
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
    if (info_ == nullptr) throw std::bad_alloc();
    if (setjmp(png_jmpbuf(png_))) fail();
    png_set_read_fn(png_, this, on_read);
    png_set_user_limits(png_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_set_crc_action(png_, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE);  // checked already
    png_read_info(png_, info_);
    prepare();
    return {static_cast<int>(file_.height), static_cast<int>(file_.width)};
  }

  void read(const Window& window, uint8_t* out, ptrdiff_t stride) override {
    const size_t bytes = png_get_rowbytes(png_, info_);
    rows_.resize(file_.interlaced ? bytes * file_.height : bytes);
    if (setjmp(png_jmpbuf(png_))) fail();
    read_rows(window, bytes, out, stride);
    close();
    if (!palette_fits_) refuse("a pixel names no colour of the palette", size_, size_);
  }

 private:
  // Sets up the conversions. Throws where the pixels are not what the content needs.
  void prepare() {
    const int colour = file_.colour, depth = file_.depth;
    if (content_ == Content::label) {
      if ((colour != PNG_COLOR_TYPE_GRAY && colour != PNG_COLOR_TYPE_PALETTE) || depth > 8) {
        const bool coloured = colour & PNG_COLOR_MASK_COLOR, alpha = colour & PNG_COLOR_MASK_ALPHA;
        const char* mode = coloured ? (alpha ? "RGBA" : "RGB") : (alpha ? "LA" : "I;16");
        throw DecodeError(std::string("label has mode ") + mode +
                          "; expected a grey or palette PNG of at most 8 bits whose values are the classes" +
                          (coloured ? "; map its colours to class numbers first" : ""));
      }
      png_set_packing(png_);
    } else if (colour == PNG_COLOR_TYPE_PALETTE) {
      png_set_packing(png_);  // the colours are looked up here, where one that is not there is found
    } else {
      if (depth == 16 && colour == PNG_COLOR_TYPE_GRAY) {
        throw DecodeError("has more than 8 bits a channel (mode I;16); expected 8");
      }
      if (depth == 16) png_set_strip_16(png_);
      if (colour == PNG_COLOR_TYPE_GRAY && depth < 8) png_set_expand_gray_1_2_4_to_8(png_);
      if (!(colour & PNG_COLOR_MASK_COLOR)) png_set_gray_to_rgb(png_);
      png_set_strip_alpha(png_);
    }
    channels_ = content_ == Content::label || colour == PNG_COLOR_TYPE_PALETTE ? 1 : 3;
    png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    if (png_get_rowbytes(png_, info_) != file_.width * channels_) {
      throw DecodeError("libpng gives rows of an unexpected layout");
    }
  }

  // No object with a destructor may live here: libpng's errors jump over this function.
  void read_rows(const Window& window, size_t bytes, uint8_t* out, ptrdiff_t stride) {
    const size_t skipped = static_cast<size_t>(window.left) * channels_;
    const size_t wanted = static_cast<size_t>(window.right - window.left) * channels_;
    const bool coloured = content_ == Content::image && channels_ == 1;
    const int passes = file_.interlaced ? 7 : 1;
    for (int pass = 0; pass < passes; ++pass) {
      for (int y = 0; y < static_cast<int>(file_.height); ++y) {
        const bool kept = y >= window.top && y < window.bottom;
        uint8_t* row = file_.interlaced ? rows_.data() + y * bytes : rows_.data();
        uint8_t* target = out + (y - window.top) * stride;
        if (!file_.interlaced && kept && wanted == bytes && !coloured) row = target;
        png_read_row(png_, row, nullptr);
        if (pass + 1 < passes) continue;
        if (coloured) {
          check_colours(row);
          if (kept) look_up(row + skipped, wanted, target);
        } else if (kept && row != target) {
          std::memcpy(target, row + skipped, wanted);
        }
      }
    }
    png_read_end(png_, nullptr);  // checks what is left of the stream, its checksum too
  }

  // All of a row, whatever the window: a wrong pixel must not be found in some epochs only.
  void check_colours(const uint8_t* row) {
    const size_t entries = file_.palette.size / 3;
    palette_fits_ = palette_fits_ && *std::max_element(row, row + file_.width) < entries;
  }

  void look_up(const uint8_t* indexes, size_t count, uint8_t* out) const {
    for (size_t x = 0; x < count; ++x, out += 3) {
      const size_t place = 3 * size_t{indexes[x]};
      for (int c = 0; c < 3; ++c) out[c] = place < file_.palette.size ? file_.palette.data[place + c] : 0;
    }
  }

  void close() {
    if (png_ != nullptr) png_destroy_read_struct(&png_, &info_, nullptr);
    png_ = nullptr;
    info_ = nullptr;
  }

  [[noreturn]] void fail() {
    close();
    if (no_memory_) throw std::bad_alloc();
    refuse(message_, offset(), size_);
  }

  static void on_read(png_structp png, png_bytep out, size_t count) {
    auto* decoder = static_cast<PngDecoder*>(png_get_io_ptr(png));
    if (!decoder->give(out, count)) png_error(png, "premature end of the file");
  }

  // The next bytes of the signature and the chunks that matter. Others, such as text and profiles, libpng
  // does not see: it takes memory for them, and has rules of its own.
  bool give(uint8_t* out, size_t count) {
    while (count > 0) {
      if (piece_ > file_.essential.size()) return false;
      const Bytes from = piece_ == 0 ? Bytes{data_, kPngSignature} : file_.essential[piece_ - 1];
      const size_t now = std::min(count, from.size - at_);
      std::memcpy(out, from.data + at_, now);
      out += now;
      count -= now;
      at_ += now;
      if (at_ < from.size) continue;
      ++piece_;
      at_ = 0;
    }
    return true;
  }

  size_t offset() const {
    return piece_ == 0 || piece_ > file_.essential.size() ? size_
                                                          : file_.essential[piece_ - 1].data - data_ + at_;
  }

  // libpng's own, but that what could not be had is remembered: it is no fault of the file.
  static png_voidp on_malloc(png_structp png, png_alloc_size_t size) {
    void* memory = std::malloc(size);
    if (memory == nullptr) static_cast<PngDecoder*>(png_get_mem_ptr(png))->no_memory_ = true;
    return memory;
  }

  static void on_free(png_structp, png_voidp memory) { std::free(memory); }

  [[noreturn]] static void on_error(png_structp png, png_const_charp text) {
    auto* decoder = static_cast<PngDecoder*>(png_get_error_ptr(png));
    std::snprintf(decoder->message_, sizeof decoder->message_, "%s", text);
    png_longjmp(png, 1);
  }

  // Too many pixels, a wrong checksum of them: libpng goes on after these, though something is damaged. Bytes
  // behind the end of the compressed stream hold nothing.
  static void on_warning(png_structp png, png_const_charp text) {
    const bool is_of_pixels = std::strncmp(text, "IDAT: ", 6) == 0;
    if (is_of_pixels && std::strcmp(text, "IDAT: Extra compressed data") != 0) on_error(png, text);
  }

  const Content content_;
  const int64_t max_pixels_;
  PngFile file_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  char message_[256] = "";
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
  size_t piece_ = 0, at_ = 0;  // where libpng is: the signature, or a chunk, and the place in it
  bool palette_fits_ = true;
  bool no_memory_ = false;
  int channels_ = 1;  // of libpng's rows
  std::vector<uint8_t> rows_;
};

}  // namespace

std::unique_ptr<Decoder> make_png_decoder(Content content, int64_t max_pixels) {
  return std::make_unique<PngDecoder>(content, max_pixels);
}

}  // namespace deeplab_fast

#else

namespace deeplab_fast {

std::unique_ptr<Decoder> make_png_decoder(Content, int64_t) { throw DecodeError("this build has no libpng"); }

}  // namespace deeplab_fast

#endif
