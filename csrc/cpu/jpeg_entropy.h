// Huffman decoding of baseline JPEG: bits to coefficients (ITU-T T.81, annex F.2).
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <vector>

namespace deeplab_fast {

constexpr int kBlockSize = 64;  // coefficients of a block
constexpr int kMostBitsOfBlock = kBlockSize * 32;
constexpr int kStoredBlock = kBlockSize + 1;  // the last place takes what lies beyond the block

// Reads bits from a scan without byte stuffing or markers. The memory must go on for kScanSlack bytes
// beyond the last one; the caller checks from time to time how far it came.
constexpr size_t kScanSlack = 16 + 16 * kMostBitsOfBlock / 8;

class BitReader {
 public:
  explicit BitReader(const uint8_t* data) : next_(data) {}

  // At least 56 bits to look at.
  void refill() {
    uint64_t bytes;
    memcpy(&bytes, next_, 8);
    bits_ |= __builtin_bswap64(bytes) >> count_;
    next_ += (63 - count_) >> 3;
    count_ |= 56;
  }

  void skip(int bits) {
    bits_ <<= bits;
    count_ -= bits;
  }

  uint64_t bits() const { return bits_; }

  // Bytes of which at least a bit was used, counted from `data`.
  ptrdiff_t used(const uint8_t* data) const { return next_ - data - count_ / 8; }

 private:
  const uint8_t* next_;
  uint64_t bits_ =
      0;  // the first bit is the highest; beyond count_ they may be set, but only as the data has them
  int count_ = 0;
};

// One Huffman table, ready to decode with a look at the next 11 bits.
class HuffmanTable {
 public:
  // `counts` of the codes of 1 to 16 bits and their symbols, as a DHT segment has them. False where no such
  // code exists, or a coefficient would have more bits than baseline allows: 11 for DC, 10 for AC.
  bool build(const uint8_t counts[16], const uint8_t* symbols, int symbol_count, bool is_dc);
  bool exists() const { return exists_; }

  // A DC difference. False: the bits are no code.
  bool decode_dc(BitReader& reader, int* difference) const;
  // The 63 AC coefficients, into `block` (kStoredBlock places, natural order, zero before) where it is given.
  // `dc_only`: there are none. False: corrupt.
  template <bool kStore>
  bool decode_ac(BitReader& reader, int16_t* block, bool* dc_only) const;

 private:
  static constexpr int kLook = 11;

  // The symbol that the next bits begin with.
  struct Entry {
    uint8_t code;  // bits of the code; 0: longer than the look
    uint8_t size;  // bits of the value after it
    uint8_t all;   // both
    uint8_t run;   // zeros before the coefficient; kEnd: end of the block
  };
  static constexpr uint8_t kEnd = 128;

  template <bool kStore>
  bool decode_symbol(BitReader& reader, int& k, int16_t* block) const;
  static Entry entry_of(int symbol, int code, bool is_dc);
  // Of a code longer than the look; code 0 where it is none.
  Entry find_long(uint32_t prefix, bool is_dc) const;

  bool exists_ = false;
  Entry entries_[1 << kLook];
  int32_t past_[18];    // for each length, the first 16-bit prefix beyond its codes
  int32_t offset_[17];  // from a code to the place of its symbol
  uint8_t symbols_[256];
};

// Position of a coefficient in its block, by its position in zigzag order.
extern const uint8_t kNaturalOrder[kBlockSize];

}  // namespace deeplab_fast
