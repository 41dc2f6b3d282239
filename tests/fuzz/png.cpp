// The image and the label decoders on PNG: no memory error, a window equals the same part of the whole, and
// the two label decoders give the same pixels where both accept a file.
#include <zlib.h>

#include <algorithm>
#include <random>

#include "bounded.h"
#include "decoded.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t bytes, size_t max_bytes);

namespace {

constexpr size_t kSignature = 8, kHeader = 8, kChecksum = 4;
constexpr size_t kMaxInflated = 1 << 18;

using Bytes = std::vector<uint8_t>;

uint32_t big_endian(const uint8_t* p) {
  return uint32_t{p[0]} << 24 | uint32_t{p[1]} << 16 | uint32_t{p[2]} << 8 | p[3];
}

void append(uint32_t value, Bytes* to) {
  for (int shift = 24; shift >= 0; shift -= 8) to->push_back(static_cast<uint8_t>(value >> shift));
}

struct Chunk {
  Bytes name, body;
};

// The chunks of a file, checksums left aside; `rest` is what is behind the last whole one.
std::vector<Chunk> chunks_of(const uint8_t* data, size_t bytes, Bytes* rest) {
  std::vector<Chunk> chunks;
  size_t at = std::min(kSignature, bytes);
  while (bytes - at >= kHeader + kChecksum) {
    const size_t length = big_endian(data + at);
    if (length > bytes - at - kHeader - kChecksum) break;
    const uint8_t* body = data + at + kHeader;
    chunks.push_back({Bytes(body - 4, body), Bytes(body, body + length)});
    at += kHeader + length + kChecksum;
  }
  rest->assign(data + at, data + bytes);
  return chunks;
}

Bytes file_of(const std::vector<Chunk>& chunks, const Bytes& rest) {
  Bytes file = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
  for (const Chunk& chunk : chunks) {
    append(static_cast<uint32_t>(chunk.body.size()), &file);
    const size_t from = file.size();
    file.insert(file.end(), chunk.name.begin(), chunk.name.end());
    file.insert(file.end(), chunk.body.begin(), chunk.body.end());
    append(static_cast<uint32_t>(crc32(0, file.data() + from, static_cast<uInt>(file.size() - from))), &file);
  }
  file.insert(file.end(), rest.begin(), rest.end());
  return file;
}

bool is(const Chunk& chunk, const char* name) { return std::memcmp(chunk.name.data(), name, 4) == 0; }

// Mutates the pixels inside the compressed stream and packs them again, in one or two chunks.
void mutate_pixels(std::vector<Chunk>* chunks, std::minstd_rand& random) {
  const auto first =
      std::find_if(chunks->begin(), chunks->end(), [](const Chunk& chunk) { return is(chunk, "IDAT"); });
  if (first == chunks->end()) return;
  const size_t place = first - chunks->begin();
  Bytes stream;
  for (const Chunk& chunk : *chunks) {
    if (is(chunk, "IDAT")) stream.insert(stream.end(), chunk.body.begin(), chunk.body.end());
  }
  Bytes pixels(kMaxInflated);
  uLongf inflated = pixels.size();
  if (uncompress(pixels.data(), &inflated, stream.data(), stream.size()) != Z_OK) return;
  inflated = LLVMFuzzerMutate(pixels.data(), inflated, std::min(kMaxInflated, 2 * inflated + 64));
  uLongf deflated = compressBound(inflated);
  stream.resize(deflated);
  if (compress2(stream.data(), &deflated, pixels.data(), inflated, random() % 10) != Z_OK) return;
  stream.resize(deflated);
  const Bytes name = {'I', 'D', 'A', 'T'};
  chunks->erase(std::remove_if(chunks->begin(), chunks->end(), [](const Chunk& c) { return is(c, "IDAT"); }),
                chunks->end());
  const size_t cut = random() % 2 == 0 ? stream.size() : random() % (stream.size() + 1);
  const std::vector<Chunk> parts = {{name, Bytes(stream.begin(), stream.begin() + cut)},
                                    {name, Bytes(stream.begin() + cut, stream.end())}};
  chunks->insert(chunks->begin() + place, parts.begin(), parts.end() - (cut == stream.size() ? 1 : 0));
}

// One chunk is mutated, doubled, moved or removed.
void mutate_chunk(std::vector<Chunk>* chunks, std::minstd_rand& random) {
  if (chunks->empty()) return;
  const size_t one = random() % chunks->size(), other = random() % chunks->size();
  switch (random() % 8) {
    case 0:
      chunks->insert(chunks->begin() + other, Chunk((*chunks)[one]));
      break;
    case 1:
      std::swap((*chunks)[one], (*chunks)[other]);
      break;
    case 2:
      chunks->erase(chunks->begin() + one);
      break;
    default: {
      Bytes& body = (*chunks)[one].body;
      const size_t size = body.size();
      body.resize(size + 32);
      body.resize(LLVMFuzzerMutate(body.data(), size, body.size()));
    }
  }
}

}  // namespace

// Most mutations leave every checksum right, so that they reach the code behind the checks.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t bytes, size_t max_bytes, unsigned int seed) {
  std::minstd_rand random(seed);
  const unsigned kind = random() % 8;
  if (kind < 2) {
    bytes = LLVMFuzzerMutate(data, bytes, max_bytes);
    if (kind == 0) return bytes;
  }
  Bytes rest;
  std::vector<Chunk> chunks = chunks_of(data, bytes, &rest);
  if (kind >= 2 && kind < 5) mutate_chunk(&chunks, random);
  if (kind == 5 || kind == 6) mutate_pixels(&chunks, random);
  if (kind == 7) {
    rest.resize(8);
    for (uint8_t& byte : rest) byte = static_cast<uint8_t>(random() >> 8);
  }
  const Bytes file = file_of(chunks, rest);
  if (file.size() > max_bytes) return LLVMFuzzerMutate(data, bytes, max_bytes);
  std::memcpy(data, file.data(), file.size());
  return file.size();
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  using namespace deeplab_fast;
  const Bounded bounded(4.0, 64);  // eight decodes of at most kMaxDecoded pixels
  check_windows(*make_image_decoder(kRules), data, bytes, 3, true);
  check_windows(*make_label_decoder(kRules), data, bytes, 1, true);
  const auto fast = make_fast_label_decoder(kRules.max_pixels);
  if (!fast->takes(data, bytes)) return 0;
  const Outcome quick = check_windows(*fast, data, bytes, 1, true);
  const Outcome usual =
      check_windows(*make_png_decoder(Content::label, kRules.max_pixels), data, bytes, 1, true);
  if (quick.decoded && usual.decoded && quick.decoded->pixels != usual.decoded->pixels) {
    finding("the two label decoders give different pixels");
  }
  return 0;
}
