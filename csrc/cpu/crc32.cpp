// CRC-32 as in zip, gzip and PNG (polynomial 0x04C11DB7, reflected): Python's zlib.crc32.
#include <array>

#include "../api.h"

#ifdef DEEPLAB_FAST_HAS_DEFLATE
#include <libdeflate.h>
#endif

namespace deeplab_fast {
namespace {

constexpr int kSlices = 16;
using Tables = std::array<std::array<uint32_t, 256>, kSlices>;

// tables[k][b]: what byte b does to the remainder when k more bytes follow it.
Tables make_tables() {
  Tables tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t remainder = byte;
    for (int bit = 0; bit < 8; ++bit) remainder = (remainder >> 1) ^ (remainder & 1 ? 0xEDB88320u : 0);
    tables[0][byte] = remainder;
  }
  for (int k = 1; k < kSlices; ++k) {
    for (int byte = 0; byte < 256; ++byte) {
      const uint32_t before = tables[k - 1][byte];
      tables[k][byte] = (before >> 8) ^ tables[0][before & 255];
    }
  }
  return tables;
}

}  // namespace

uint32_t crc32_portable(const uint8_t* data, size_t size) {
  static const Tables tables = make_tables();
  uint32_t remainder = ~0u;
  for (; size >= kSlices; size -= kSlices, data += kSlices) {
    uint32_t next = 0;
    for (int i = 0; i < 4; ++i) next ^= tables[kSlices - 1 - i][data[i] ^ (remainder >> (8 * i) & 255)];
    for (int i = 4; i < kSlices; ++i) next ^= tables[kSlices - 1 - i][data[i]];
    remainder = next;
  }
  for (; size > 0; --size, ++data) remainder = (remainder >> 8) ^ tables[0][(remainder ^ *data) & 255];
  return ~remainder;
}

uint32_t crc32(const uint8_t* data, size_t size) {
#ifdef DEEPLAB_FAST_HAS_DEFLATE
  return libdeflate_crc32(0, data, size);
#else
  return crc32_portable(data, size);
#endif
}

}  // namespace deeplab_fast
