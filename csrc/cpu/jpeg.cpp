// JPEG through libjpeg-turbo, only the rows and columns asked for.
#include "decode.h"

#ifdef DEEPLAB_FAST_HAS_JPEG

#include <jpeglib.h>

#include <csetjmp>
#include <cstdio>
#include <cstring>
// after jpeglib.h
#include <jerror.h>

namespace deeplab_fast {
namespace {

constexpr long kMaxMemory = 256L << 20;  // libjpeg's own, mostly the coefficients of progressive files
constexpr int kMaxScans = 100;           // of a progressive file; encoders write about ten
// Upsampled chroma at the edge of a partial decode lacks its neighbour: decode that many columns more.
constexpr int kMargin = 2;

class JpegDecoder : public Decoder {
 public:
  JpegDecoder() {
    info_.err = jpeg_std_error(&error_);
    error_.error_exit = on_error;
    error_.emit_message = on_message;
    info_.client_data = this;
    source_.init_source = [](j_decompress_ptr) {};
    source_.fill_input_buffer = on_end_of_data;
    source_.skip_input_data = on_skip;
    source_.resync_to_restart = jpeg_resync_to_restart;
    source_.term_source = [](j_decompress_ptr) {};
    progress_.progress_monitor = on_progress;
  }

  ~JpegDecoder() override { jpeg_destroy_decompress(&info_); }

  Size open(const uint8_t* data, size_t size) override {
    data_ = data;
    size_ = size;
    source_.next_input_byte = data;
    source_.bytes_in_buffer = size;
    // A new one each time: the old one keeps its file's tables and would lend them to a file that lacks some.
    jpeg_destroy_decompress(&info_);
    if (setjmp(jump_)) fail();
    jpeg_create_decompress(&info_);
    info_.mem->max_memory_to_use = kMaxMemory;
    info_.src = &source_;
    jpeg_read_header(&info_, TRUE);
    if (info_.num_components != 1 && info_.num_components != 3 && info_.num_components != 4) {
      refuse(std::to_string(info_.num_components) + " channels; expected 1, 3 or 4", offset(), size_);
    }
    check_size(info_.image_width, info_.image_height);
    return {static_cast<int>(info_.image_height), static_cast<int>(info_.image_width)};
  }

  void read(const Window& window, uint8_t* out, ptrdiff_t stride) override {
    row_.resize(static_cast<size_t>(info_.image_width) * 4);
    if (setjmp(jump_)) fail();
    read_rows(window, out, stride);
  }

 private:
  // No object with a destructor may live here: libjpeg's errors jump over this function.
  void read_rows(const Window& window, uint8_t* out, ptrdiff_t stride) {
    const bool is_cmyk = info_.num_components == 4;
    info_.out_color_space = is_cmyk ? JCS_CMYK : JCS_RGB;
    if (jpeg_has_multiple_scans(&info_)) info_.progress = &progress_;
    // Smoothing, of a progressive file that lacks scans, looks at blocks beyond the window.
    info_.do_block_smoothing = FALSE;
    jpeg_start_decompress(&info_);
    // A window that is the whole width goes straight into the caller's rows.
    JDIMENSION first = 0, width = info_.output_width;
    if (window.left > 0 || window.right < static_cast<int>(info_.output_width)) {
      first = window.left > kMargin ? window.left - kMargin : 0;
      const JDIMENSION end = window.right + kMargin;
      width = (end < info_.output_width ? end : info_.output_width) - first;
      jpeg_crop_scanline(&info_, &first, &width);
    }
    if (window.top > 0) jpeg_skip_scanlines(&info_, window.top);
    const size_t skipped = window.left - first, columns = window.right - window.left;
    const bool direct = !is_cmyk && columns == width;
    for (int y = window.top; y < window.bottom; ++y, out += stride) {
      JSAMPROW target = direct ? out : row_.data();
      if (jpeg_read_scanlines(&info_, &target, 1) != 1) ERREXIT(&info_, JERR_INPUT_EOF);
      if (is_cmyk) {
        convert_cmyk(row_.data() + 4 * skipped, columns, out);
      } else if (!direct) {
        std::memcpy(out, row_.data() + 3 * skipped, 3 * columns);
      }
    }
    check_end();
    jpeg_abort_decompress(&info_);  // what lies below the window is not decoded
  }

  static void convert_cmyk(const uint8_t* row, size_t columns, uint8_t* out) {
    for (size_t x = 0; x < columns; ++x, row += 4, out += 3) {
      for (int c = 0; c < 3; ++c) out[c] = rgb_from_inverted_ink(row[c], row[3]);
    }
  }

  // A file cut off below the window must be refused like one cut off inside it: else it would be found
  // in some epochs only.
  void check_end() {
    const uint8_t* at = source_.next_input_byte;
    const uint8_t* const end = data_ + size_;
    // The decoder may already hold the marker itself, or a few bytes before it.
    at = at - data_ > 2 ? at - 2 : data_;
    while (at + 1 < end) {
      at = static_cast<const uint8_t*>(std::memchr(at, 0xFF, end - 1 - at));
      if (at == nullptr) break;
      if (at[1] == JPEG_EOI) return;
      ++at;
    }
    if (info_.unread_marker == JPEG_EOI || jpeg_input_complete(&info_)) return;
    ERREXIT(&info_, JERR_INPUT_EOF);
  }

  size_t offset() const { return size_ - source_.bytes_in_buffer; }

  [[noreturn]] void fail() {
    const size_t at = offset();
    jpeg_abort_decompress(&info_);
    refuse(message_, at, size_);
  }

  static JpegDecoder* self(j_common_ptr info) { return static_cast<JpegDecoder*>(info->client_data); }

  [[noreturn]] static void on_error(j_common_ptr info) {
    JpegDecoder* decoder = self(info);
    (*info->err->format_message)(info, decoder->message_);
    longjmp(decoder->jump_, 1);
  }

  // libjpeg goes on after these with invented pixels; nobody should train on them.
  static void on_message(j_common_ptr info, int level) {
    if (level >= 0) return;
    switch (info->err->msg_code) {
      case JWRN_ARITH_BAD_CODE:
      case JWRN_HIT_MARKER:
      case JWRN_HUFF_BAD_CODE:
      case JWRN_JPEG_EOF:
      case JWRN_MUST_RESYNC:
        on_error(info);
      default:
        return;
    }
  }

  static boolean on_end_of_data(j_decompress_ptr info) {
    ERREXIT(info, JERR_INPUT_EOF);
    return FALSE;
  }

  static void on_skip(j_decompress_ptr info, long count) {
    if (count <= 0) return;
    if (static_cast<size_t>(count) > info->src->bytes_in_buffer) ERREXIT(info, JERR_INPUT_EOF);
    info->src->next_input_byte += count;
    info->src->bytes_in_buffer -= count;
  }

  static void on_progress(j_common_ptr info) {
    JpegDecoder* decoder = self(info);
    if (decoder->info_.input_scan_number <= kMaxScans) return;
    std::snprintf(decoder->message_, sizeof decoder->message_, "more than %d scans", kMaxScans);
    longjmp(decoder->jump_, 1);
  }

  jpeg_decompress_struct info_{};
  jpeg_error_mgr error_{};
  jpeg_source_mgr source_{};
  jpeg_progress_mgr progress_{};
  jmp_buf jump_;
  char message_[JMSG_LENGTH_MAX] = "";
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
  std::vector<uint8_t> row_;
};

}  // namespace

std::unique_ptr<Decoder> make_jpeg_decoder() { return std::make_unique<JpegDecoder>(); }

}  // namespace deeplab_fast

#else

namespace deeplab_fast {

std::unique_ptr<Decoder> make_jpeg_decoder() { throw DecodeError("this build has no libjpeg-turbo"); }

}  // namespace deeplab_fast

#endif
