#include "jpeg_entropy.h"

// Shifts by a register's count without the detour over one register.
#if defined(__x86_64__) && defined(__GNUC__)
#define DEEPLAB_FAST_BMI2 __attribute__((target("bmi2")))
#else
#define DEEPLAB_FAST_BMI2
#endif

namespace deeplab_fast {

const uint8_t kNaturalOrder[kBlockSize] = {0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,
                                           12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6,  7,  14, 21, 28,
                                           35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
                                           58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};

namespace {

constexpr int kMostDcBits = 11, kMostAcBits = 10;
constexpr int kFurthest = kBlockSize + 128;  // where a run, or the end of a block, can lead

// kNaturalOrder, and for all positions beyond it the place that nobody reads.
struct Places {
  uint8_t place[kFurthest];
  constexpr Places() : place() {
    for (int k = 0; k < kFurthest; ++k) place[k] = kBlockSize;
  }
};

Places make_places() {
  Places places;
  memcpy(places.place, kNaturalOrder, kBlockSize);
  return places;
}

const Places kPlaces = make_places();

// The value after a code (T.81, F.2.2.1): numbers whose first bit is 0 are negative. `bits` begins with it.
inline int value_of(uint64_t bits, int size) {
  const int magnitude = static_cast<int>((bits >> 1) >> (63 - size));
  const int negative = static_cast<int>(~bits >> 63);
  return magnitude - (-negative & ((1 << size) - 1));
}

}  // namespace

HuffmanTable::Entry HuffmanTable::entry_of(int symbol, int code, bool is_dc) {
  Entry entry;
  entry.code = static_cast<uint8_t>(code);
  entry.size = static_cast<uint8_t>(symbol & 15);
  entry.all = static_cast<uint8_t>(code + entry.size);
  // 15 zeros and a coefficient of no bits are the 16 zeros that this symbol means; other such symbols end the
  // block.
  const int run = symbol >> 4;
  entry.run = static_cast<uint8_t>(!is_dc && entry.size == 0 && run != 15 ? kEnd : run);
  return entry;
}

bool HuffmanTable::build(const uint8_t counts[16], const uint8_t* symbols, int symbol_count, bool is_dc) {
  memset(entries_, 0, sizeof entries_);
  memset(symbols_, 0, sizeof symbols_);
  memcpy(symbols_, symbols, symbol_count);
  exists_ = false;
  int code = 0, place = 0;
  for (int length = 1; length <= 16; ++length) {
    offset_[length] = place - code;
    for (int i = 0; i < counts[length - 1]; ++i, ++code, ++place) {
      const int symbol = symbols[place];
      if (is_dc ? symbol > kMostDcBits : (symbol & 15) > kMostAcBits) return false;
      if (length > kLook || code >= 1 << length) continue;
      const int rest = kLook - length;  // bits in sight after the code
      const Entry entry = entry_of(symbol, length, is_dc);
      for (int tail = 0; tail < 1 << rest; ++tail) entries_[code << rest | tail] = entry;
    }
    if (code >= 1 << length) return false;  // no code is all ones (T.81, C.2)
    past_[length] = code << (16 - length);
    code <<= 1;
  }
  past_[17] = 1 << 16;
  exists_ = true;
  return true;
}

HuffmanTable::Entry HuffmanTable::find_long(uint32_t prefix, bool is_dc) const {
  int length = kLook + 1;
  while (static_cast<int32_t>(prefix) >= past_[length]) ++length;
  if (length > 16) return Entry{0, 0, 0, 0};
  const int place = static_cast<int>(prefix >> (16 - length)) + offset_[length];
  return entry_of(symbols_[place & 255], length, is_dc);
}

bool HuffmanTable::decode_dc(BitReader& reader, int* difference) const {
  reader.refill();
  const uint64_t bits = reader.bits();
  Entry entry = entries_[bits >> (64 - kLook)];
  if (entry.code == 0) {
    entry = find_long(static_cast<uint32_t>(bits >> 48), true);
    if (entry.code == 0) return false;
  }
  *difference = value_of(bits << entry.code, entry.size);
  reader.skip(entry.all);
  return true;
}

// One symbol: what the next one needs is found by one look; the value is off that path, and there is one
// branch.
template <bool kStore>
__attribute__((always_inline)) inline bool HuffmanTable::decode_symbol(BitReader& reader, int& k,
                                                                       int16_t* block) const {
  const uint64_t bits = reader.bits();
  Entry entry = entries_[bits >> (64 - kLook)];
  if (__builtin_expect(entry.code == 0, false)) {
    entry = find_long(static_cast<uint32_t>(bits >> 48), false);
    if (entry.code == 0) {
      k = kBlockSize + 1;  // corrupt
      return false;
    }
  }
  reader.skip(entry.all);
  k += entry.run;
  if (kStore) block[kPlaces.place[k]] = static_cast<int16_t>(value_of(bits << entry.code, entry.size));
  ++k;
  return k < kBlockSize;
}

template <bool kStore>
DEEPLAB_FAST_BMI2 bool HuffmanTable::decode_ac(BitReader& reader, int16_t* block, bool* dc_only) const {
  BitReader local = reader;  // in registers
  int k = 1;
  do {
    local.refill();  // 56 bits: two symbols have at most 52
  } while (decode_symbol<kStore>(local, k, block) && decode_symbol<kStore>(local, k, block));
  reader = local;
  *dc_only = k == 1 + kEnd + 1;
  return k == kBlockSize || k > kEnd;
}

template bool HuffmanTable::decode_ac<true>(BitReader&, int16_t*, bool*) const;
template bool HuffmanTable::decode_ac<false>(BitReader&, int16_t*, bool*) const;

}  // namespace deeplab_fast
