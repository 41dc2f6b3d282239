// The JPEG files that data sets are made of, faster than libjpeg-turbo and with the same bits: baseline, one
// interleaved scan, YCbCr at 4:4:4, 4:2:2 or 4:2:0, or grey.
//
// takes() declines every other kind, and read() gives up at the first thing that is not as it should be: then
// libjpeg-turbo decodes the file, or says what is wrong with it. So nothing here has to report an error.
#include <algorithm>
#include <cstring>

#include "decode.h"
#include "jpeg_entropy.h"
#include "jpeg_pixels.h"

namespace deeplab_fast {
namespace {

constexpr int kMaxSide = 65500;  // libjpeg's
constexpr int kMinSide = 16;     // smaller ones have filters of their own in libjpeg

enum Marker : uint8_t {
  kSof0 = 0xC0,
  kSof1 = 0xC1,
  kDht = 0xC4,
  kRst0 = 0xD0,
  kEoi = 0xD9,
  kSos = 0xDA,
  kDqt = 0xDB,
  kDri = 0xDD,
  kApp0 = 0xE0,
  kApp14 = 0xEE,
  kApp15 = 0xEF,
  kCom = 0xFE,
};

struct Component {
  int id = 0, across = 1, down = 1;  // sampling factors
  int quantisation = 0, dc = 0, ac = 0;
  int blocks_across = 0;  // stored: whole MCUs
  int samples = 0;        // a row, without what fills up the last block
  int rows = 0;           // likewise
  std::vector<uint8_t> plane;
  int predictor = 0;
};

// What the headers say.
struct Header {
  int height = 0, width = 0;
  int count = 0;  // components
  Component components[3];
  int16_t quantisation[4][kBlockSize];  // natural order
  bool has_quantisation[4] = {false, false, false, false};
  HuffmanTable dc[4], ac[4];
  int restart_interval = 0;
  bool has_jfif = false, has_adobe = false;
  int adobe_transform = 0;
  size_t scan = 0;  // where the entropy-coded data begin
};

int word(const uint8_t* p) { return p[0] << 8 | p[1]; }

// Reads the segments up to the scan. False: not of the kind that is decoded here.
class HeaderParser {
 public:
  HeaderParser(const uint8_t* data, size_t size, Header& header)
      : data_(data), size_(size), header_(header) {}

  bool parse() {
    if (size_ < 4 || data_[0] != 0xFF || data_[1] != 0xD8) return false;
    size_t at = 2;
    while (at + 4 <= size_) {
      if (data_[at] != 0xFF) return false;
      const uint8_t marker = data_[at + 1];
      const size_t length = word(data_ + at + 2);
      if (length < 2 || length > size_ - at - 2) return false;
      const uint8_t* body = data_ + at + 4;
      if (!segment(marker, body, static_cast<int>(length) - 2)) return false;
      at += 2 + length;
      if (marker == kSos) {
        header_.scan = at;
        return complete();
      }
    }
    return false;
  }

 private:
  bool segment(uint8_t marker, const uint8_t* body, int length) {
    switch (marker) {
      case kSof0:
      case kSof1:
        return frame(body, length);
      case kDht:
        return huffman(body, length);
      case kDqt:
        return quantisation(body, length);
      case kDri:
        if (length != 2) return false;
        header_.restart_interval = word(body);
        return true;
      case kSos:
        return scan(body, length);
      case kApp0:
        if (length >= 14 && std::memcmp(body, "JFIF", 5) == 0) header_.has_jfif = true;
        return true;
      case kApp14:
        if (length >= 12 && std::memcmp(body, "Adobe", 5) == 0) {
          header_.has_adobe = true;
          header_.adobe_transform = body[11];
        }
        return true;
      case kCom:
        return true;
      default:
        return marker > kApp0 && marker <= kApp15;
    }
  }

  bool frame(const uint8_t* body, int length) {
    if (header_.count != 0 || length < 6 || body[0] != 8) return false;
    header_.height = word(body + 1);
    header_.width = word(body + 3);
    const int count = body[5];
    if ((count != 1 && count != 3) || length != 6 + 3 * count) return false;
    if (header_.height < kMinSide || header_.width < kMinSide) return false;
    if (header_.height > kMaxSide || header_.width > kMaxSide) return false;  // libjpeg refuses it
    for (int i = 0; i < count; ++i) {
      const uint8_t* from = body + 6 + 3 * i;
      Component& c = header_.components[i];
      c.id = from[0];
      c.across = from[1] >> 4;
      c.down = from[1] & 15;
      c.quantisation = from[2];
      const bool sampled = c.across >= 1 && c.across <= 4 && c.down >= 1 && c.down <= 4;
      if (!sampled || c.quantisation > 3) return false;
      for (int other = 0; other < i; ++other) {
        if (header_.components[other].id == c.id) return false;
      }
    }
    header_.count = count;
    return true;
  }

  bool huffman(const uint8_t* body, int length) {
    while (length >= 17) {
      const int kind = body[0] >> 4, slot = body[0] & 15;
      int symbols = 0;
      for (int i = 1; i <= 16; ++i) symbols += body[i];
      if (kind > 1 || slot > 3 || symbols > 256 || symbols > length - 17) return false;
      HuffmanTable& table = kind == 0 ? header_.dc[slot] : header_.ac[slot];
      if (!table.build(body + 1, body + 17, symbols, kind == 0)) return false;
      body += 17 + symbols;
      length -= 17 + symbols;
    }
    return length == 0;
  }

  bool quantisation(const uint8_t* body, int length) {
    for (; length >= 1 + kBlockSize; body += 1 + kBlockSize, length -= 1 + kBlockSize) {
      if (body[0] > 3) return false;  // 16-bit steps, or no such table
      for (int k = 0; k < kBlockSize; ++k) header_.quantisation[body[0]][kNaturalOrder[k]] = body[1 + k];
      header_.has_quantisation[body[0]] = true;
    }
    return length == 0;
  }

  bool scan(const uint8_t* body, int length) {
    const int count = header_.count;
    if (count == 0 || length != 4 + 2 * count || body[0] != count) return false;
    for (int i = 0; i < count; ++i) {
      Component& c = header_.components[i];
      if (body[1 + 2 * i] != c.id) return false;
      c.dc = body[2 + 2 * i] >> 4;
      c.ac = body[2 + 2 * i] & 15;
      if (c.dc > 3 || c.ac > 3) return false;
    }
    const uint8_t* end = body + 1 + 2 * count;
    return end[0] == 0 && end[1] == 63 && end[2] == 0;
  }

  bool complete() {
    for (int i = 0; i < header_.count; ++i) {
      const Component& c = header_.components[i];
      if (!header_.has_quantisation[c.quantisation] || !header_.dc[c.dc].exists() ||
          !header_.ac[c.ac].exists()) {
        return false;
      }
    }
    if (header_.count == 1) {
      header_.components[0].across = header_.components[0].down =
          1;  // a scan of one component is not interleaved
      return true;
    }
    const Component *luma = header_.components, *chroma = luma + 1;
    for (int i = 0; i < 2; ++i) {
      if (chroma[i].across != 1 || chroma[i].down != 1) return false;
    }
    const bool sampling = (luma->across == 1 && luma->down == 1) || (luma->across == 2 && luma->down <= 2);
    return sampling && is_ycc();
  }

  // As libjpeg guesses the colour space.
  bool is_ycc() const {
    if (header_.has_jfif) return true;
    if (header_.has_adobe) return header_.adobe_transform == 1;
    const Component* c = header_.components;
    return c[0].id == 1 && c[1].id == 2 && c[2].id == 3;
  }

  const uint8_t* data_;
  size_t size_;
  Header& header_;
};

class BaselineDecoder : public FastDecoder {
 public:
  explicit BaselineDecoder(int64_t max_pixels) : max_pixels_(max_pixels) {}

  bool takes(const uint8_t* data, size_t size) override {
    if (!has_jpeg_pixels()) return false;
    data_ = data;
    size_ = size;
    header_ = std::make_unique<Header>();
    return HeaderParser(data, size, *header_).parse();
  }

  Size open(const uint8_t*, size_t) override {
    check_size(header_->width, header_->height, max_pixels_);
    return {header_->height, header_->width};
  }

  void read(const Window& window, uint8_t* out, ptrdiff_t stride) override {
    if (collect_scan() && decode(window)) {
      write(window, out, stride);
      return;
    }
    if (!other_) other_ = make_jpeg_decoder(max_pixels_);
    other_->open(data_, size_);
    other_->read(window, out, stride);
  }

 private:
  // The scan without byte stuffing, cut at its restart markers. It must end in EOI.
  bool collect_scan() {
    scan_.clear();
    scan_.reserve(size_ - header_->scan + kScanSlack);
    restarts_.clear();
    const uint8_t *at = data_ + header_->scan, *const end = data_ + size_;
    while (true) {
      const auto* marker = static_cast<const uint8_t*>(std::memchr(at, 0xFF, end - at));
      if (marker == nullptr || marker + 1 >= end) return false;
      if (marker[1] == 0) {
        scan_.insert(scan_.end(), at, marker + 1);
      } else {
        scan_.insert(scan_.end(), at, marker);
        if (marker[1] == kEoi) break;
        if (marker[1] != kRst0 + restarts_.size() % 8) return false;
        restarts_.push_back(scan_.size());
      }
      at = marker + 2;
    }
    scan_size_ = scan_.size();
    scan_.resize(scan_size_ + kScanSlack);
    return true;
  }

  // Decodes the codes of all blocks, so that a damaged file is refused in every epoch, and makes pixels of
  // those that the window needs.
  bool decode(const Window& window) {
    const Component& luma = header_->components[0];
    const int side_x = 8 * luma.across, side_y = 8 * luma.down;  // of an MCU
    const int mcus_x = (header_->width + side_x - 1) / side_x,
              mcus_y = (header_->height + side_y - 1) / side_y;
    if (header_->restart_interval == 0
            ? !restarts_.empty()
            : restarts_.size() + 1 !=
                  static_cast<size_t>(mcus_x * int64_t{mcus_y} - 1) / header_->restart_interval + 1) {
      return false;
    }
    // Chroma filters reach one sample further.
    const int first_row = std::max(0, (window.top - 2) / side_y);
    const int last_row = std::min(mcus_y - 1, (window.bottom + 1) / side_y);
    const int first_column = std::max(0, (window.left - 2) / side_x);
    const int last_column = std::min(mcus_x - 1, (window.right + 1) / side_x);
    for (int i = 0; i < header_->count; ++i) {
      Component& c = header_->components[i];
      c.predictor = 0;
      c.blocks_across = mcus_x * c.across;
      c.samples = (header_->width * c.across + luma.across - 1) / luma.across;
      c.rows = (header_->height * c.down + luma.down - 1) / luma.down;
      // Only the window's rows of MCUs are stored.
      c.plane.resize(static_cast<size_t>(last_row - first_row + 1) * 8 * c.down * 8 * c.blocks_across);
    }
    plane_top_ = first_row;
    BitReader reader(scan_.data());
    size_t interval_end = restarts_.empty() ? scan_size_ : restarts_[0], next_restart = 0;
    int left = header_->restart_interval;
    for (int row = 0; row < mcus_y; ++row) {
      for (int column = 0; column < mcus_x; ++column) {
        if (header_->restart_interval != 0 && left-- == 0) {
          if (!at_end(reader, interval_end)) return false;
          reader = BitReader(scan_.data() + interval_end);
          ++next_restart;
          interval_end = next_restart < restarts_.size() ? restarts_[next_restart] : scan_size_;
          left = header_->restart_interval - 1;
          for (Component& c : header_->components) c.predictor = 0;
        }
        const bool kept =
            row >= first_row && row <= last_row && column >= first_column && column <= last_column;
        if (!decode_mcu(reader, kept, row - first_row, column)) return false;
        if (reader.used(scan_.data()) > static_cast<ptrdiff_t>(interval_end)) return false;
      }
    }
    return at_end(reader, interval_end);
  }

  // Whether only the bits that fill up the last byte are left.
  bool at_end(const BitReader& reader, size_t end) const {
    return reader.used(scan_.data()) == static_cast<ptrdiff_t>(end);
  }

  bool decode_mcu(BitReader& reader, bool kept, int row, int column) {
    for (int i = 0; i < header_->count; ++i) {
      Component& c = header_->components[i];
      const HuffmanTable &dc = header_->dc[c.dc], &ac = header_->ac[c.ac];
      for (int y = 0; y < c.down; ++y) {
        for (int x = 0; x < c.across; ++x) {
          int difference;
          bool dc_only;
          if (!dc.decode_dc(reader, &difference)) return false;
          c.predictor += difference;
          if (c.predictor < INT16_MIN || c.predictor > INT16_MAX) return false;
          if (!kept) {
            if (!ac.decode_ac<false>(reader, nullptr, &dc_only)) return false;
            continue;
          }
          int16_t block[kStoredBlock] = {};
          block[0] = static_cast<int16_t>(c.predictor);
          if (!ac.decode_ac<true>(reader, block, &dc_only)) return false;
          const ptrdiff_t stride = 8 * c.blocks_across;
          uint8_t* to = c.plane.data() + (row * c.down + y) * 8 * stride + (column * c.across + x) * 8;
          if (!inverse_dct(block, header_->quantisation[c.quantisation], dc_only, to, stride)) return false;
        }
      }
    }
    return true;
  }

  // A stored row of a component, the nearest where the image has none such.
  const uint8_t* row_of(const Component& c, int row) const {
    const int inside = std::min(std::max(row, 0), c.rows - 1);
    return c.plane.data() + static_cast<ptrdiff_t>(inside - plane_top_ * 8 * c.down) * 8 * c.blocks_across;
  }

  void write(const Window& window, uint8_t* out, ptrdiff_t stride) {
    const Component* c = header_->components;
    const int columns = window.right - window.left;
    if (header_->count == 1) {
      for (int y = window.top; y < window.bottom; ++y, out += stride) {
        const uint8_t* grey = row_of(c[0], y) + window.left;
        for (int x = 0; x < columns; ++x) out[3 * x] = out[3 * x + 1] = out[3 * x + 2] = grey[x];
      }
      return;
    }
    const bool halved_x = c[0].across == 2, halved_y = c[0].down == 2;
    // Chroma samples that the window's columns rest on; the filters treat the image's ends, not the window's.
    const int first = halved_x ? std::max(0, window.left / 2 - 1) : window.left;
    const int last = halved_x ? std::min(c[1].samples, (window.right + 1) / 2 + 1) : window.right;
    widened_.resize(4 * static_cast<size_t>(last - first) + 64);
    uint8_t* wide[2] = {widened_.data(), widened_.data() + 2 * (last - first) + 32};
    sums_.resize(last - first + 2);
    for (int y = window.top; y < window.bottom; ++y, out += stride) {
      const uint8_t* chroma[2];
      for (int i = 0; i < 2; ++i) {
        const int near = halved_y ? y / 2 : y;
        const int far = halved_y ? (y % 2 == 0 ? near - 1 : near + 1) : near;
        if (halved_x) {
          widen_row(row_of(c[1 + i], near) + first, row_of(c[1 + i], far) + first, halved_y, last - first,
                    sums_.data(), wide[i]);
          chroma[i] = wide[i] + window.left - 2 * first;
        } else {
          chroma[i] = row_of(c[1 + i], near) + window.left;
        }
      }
      ycc_to_rgb(row_of(c[0], y) + window.left, chroma[0], chroma[1], columns, out);
    }
  }

  const int64_t max_pixels_;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
  std::unique_ptr<Header> header_;
  std::vector<uint8_t> scan_, widened_;
  std::vector<uint16_t> sums_;
  std::vector<size_t> restarts_;  // where in scan_ each one cuts
  size_t scan_size_ = 0;
  int plane_top_ = 0;  // first row of MCUs that is stored
  std::unique_ptr<Decoder> other_;
};

}  // namespace

std::unique_ptr<FastDecoder> make_baseline_decoder(int64_t max_pixels) {
  return std::make_unique<BaselineDecoder>(max_pixels);
}

}  // namespace deeplab_fast
