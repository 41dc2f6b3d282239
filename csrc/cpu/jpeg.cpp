// JPEG through libjpeg-turbo, only the rows and columns asked for.
#include "decode.h"

#ifdef DEEPLAB_FAST_HAS_JPEG

#include <jpeglib.h>

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstring>
// after jpeglib.h
#include <jerror.h>

#include "jpeg_segments.h"

namespace deeplab_fast {
namespace {

// libjpeg is given this many bytes at a time. Where it sees 512 it decodes faster and takes bits that are no
// code for zeros, without a warning.
constexpr size_t kPiece = 256;
constexpr long kMaxMemory = 64L << 20;  // libjpeg's own, beside the coefficients of files of several scans
constexpr int kMaxScans = 100;          // of a progressive file; encoders write about ten
// Upsampled chroma at the edge of a partial decode lacks its neighbour: decode that many columns more.
constexpr int kMargin = 2;

class JpegDecoder : public Decoder {
 public:
  explicit JpegDecoder(int64_t max_pixels) : max_pixels_(max_pixels) {
    info_.err = jpeg_std_error(&error_);
    error_.error_exit = on_error;
    error_.emit_message = on_message;
    info_.client_data = this;
    source_.init_source = [](j_decompress_ptr) {};
    source_.fill_input_buffer = on_end_of_piece;
    source_.skip_input_data = on_skip;
    source_.resync_to_restart = jpeg_resync_to_restart;
    source_.term_source = [](j_decompress_ptr) {};
    progress_.progress_monitor = on_progress;
  }

  ~JpegDecoder() override { jpeg_destroy_decompress(&info_); }

  Size open(const uint8_t* data, size_t size) override {
    data_ = data;
    size_ = size;
    check_process();
    source_.next_input_byte = data;
    source_.bytes_in_buffer = std::min(size, kPiece);
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
    check_size(info_.image_width, info_.image_height, max_pixels_);
    // Of 4 channels, 2 bytes each, filled up to whole MCUs.
    info_.mem->max_memory_to_use = kMaxMemory + 8L * (static_cast<long>(info_.image_width) + 32) *
                                                    (static_cast<long>(info_.image_height) + 32);
    return {static_cast<int>(info_.image_height), static_cast<int>(info_.image_width)};
  }

  void read(const Window& window, uint8_t* out, ptrdiff_t stride) override {
    row_.resize(static_cast<size_t>(info_.image_width) * 4);
    if (setjmp(jump_)) fail();
    read_rows(window, out, stride);
  }

 private:
  // Lossless and hierarchical files are beyond some releases of libjpeg, and arithmetic coding is beyond what
  // can be checked without it.
  void check_process() const {
    for (JpegSegments segments(data_, size_); segments.next();) {
      const uint8_t marker = segments.marker;
      const bool is_frame =
          marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
      if (!is_frame) continue;
      if (marker <= 0xC2) return;
      refuse("JPEG process SOF" + std::to_string(marker - 0xC0) +
                 "; expected baseline or progressive, Huffman-coded",
             segments.body - 4 - data_, size_);
    }
  }

  // Whether every channel came, to its last bit: libjpeg makes up what is missing.
  void check_complete() {
    for (int i = 0; i < info_.num_components; ++i) {
      if (info_.comp_info[i].quant_table == nullptr) ERREXIT(&info_, JERR_INPUT_EOF);
      if (!info_.progressive_mode) continue;
      for (int k = 0; k < DCTSIZE2; ++k) {
        if (info_.coef_bits[i][k] != 0) ERREXIT(&info_, JERR_INPUT_EOF);
      }
    }
  }

  // No object with a destructor may live here: libjpeg's errors jump over this function.
  void read_rows(const Window& window, uint8_t* out, ptrdiff_t stride) {
    const bool is_cmyk = info_.num_components == 4;
    info_.out_color_space = is_cmyk ? JCS_CMYK : JCS_RGB;
    if (jpeg_has_multiple_scans(&info_)) info_.progress = &progress_;
    jpeg_start_decompress(&info_);
    if (jpeg_has_multiple_scans(&info_)) check_complete();
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
    if (!jpeg_has_multiple_scans(&info_)) pass_over(static_cast<int>(info_.output_height) - window.bottom);
    check_end();
    jpeg_abort_decompress(&info_);
  }

  // Decodes the codes of the rows below the window, to find what is damaged there. libjpeg passes over the
  // last row without a look at it, so that one is read.
  void pass_over(int rows) {
    if (rows > 1) jpeg_skip_scanlines(&info_, rows - 1);
    JSAMPROW row = row_.data();
    if (rows > 0 && jpeg_read_scanlines(&info_, &row, 1) != 1) ERREXIT(&info_, JERR_INPUT_EOF);
  }

  static void convert_cmyk(const uint8_t* row, size_t columns, uint8_t* out) {
    for (size_t x = 0; x < columns; ++x, row += 4, out += 3) {
      for (int c = 0; c < 3; ++c) out[c] = rgb_from_inverted_ink(row[c], row[3]);
    }
  }

  // A file without its end was cut off.
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

  size_t offset() const { return source_.next_input_byte == nullptr ? 0 : source_.next_input_byte - data_; }

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
      case JWRN_BOGUS_PROGRESSION:
      case JWRN_HIT_MARKER:
      case JWRN_HUFF_BAD_CODE:
      case JWRN_JPEG_EOF:
      case JWRN_MUST_RESYNC:
        on_error(info);
      default:
        return;
    }
  }

  // All bytes not yet read, in this piece and behind it.
  size_t left() const { return data_ + size_ - source_.next_input_byte; }

  static boolean on_end_of_piece(j_decompress_ptr info) {
    JpegDecoder* decoder = self(reinterpret_cast<j_common_ptr>(info));
    // libjpeg may have gone on in the piece without a note of it: both numbers are from before, and give its
    // end.
    decoder->source_.next_input_byte += decoder->source_.bytes_in_buffer;
    if (decoder->left() == 0) ERREXIT(info, JERR_INPUT_EOF);
    decoder->source_.bytes_in_buffer = std::min(decoder->left(), kPiece);
    return TRUE;
  }

  static void on_skip(j_decompress_ptr info, long count) {
    JpegDecoder* decoder = self(reinterpret_cast<j_common_ptr>(info));
    if (count <= 0) return;
    if (static_cast<size_t>(count) > decoder->left()) ERREXIT(info, JERR_INPUT_EOF);
    info->src->next_input_byte += count;
    info->src->bytes_in_buffer = std::min(decoder->left(), kPiece);
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
  const int64_t max_pixels_;
  jmp_buf jump_;
  char message_[JMSG_LENGTH_MAX] = "";
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
  std::vector<uint8_t> row_;
};

}  // namespace

std::unique_ptr<Decoder> make_jpeg_decoder(int64_t max_pixels) {
  return std::make_unique<JpegDecoder>(max_pixels);
}

}  // namespace deeplab_fast

#else

namespace deeplab_fast {

std::unique_ptr<Decoder> make_jpeg_decoder(int64_t) { throw DecodeError("this build has no libjpeg-turbo"); }

}  // namespace deeplab_fast

#endif
