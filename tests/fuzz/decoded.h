// What the targets share: decoding into guarded memory, and a window that the input chooses.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "cpu/decode.h"

namespace deeplab_fast {

constexpr int64_t kMaxDecoded = 1 << 18;  // pixels: larger images take too long to decode a million times

// What the decoders are given: less than by default, since rows take memory with their width.
inline const DecodeRules kRules{true, 1 << 22};

[[noreturn]] inline void finding(const std::string& text) {
  std::fprintf(stderr, "FINDING: %s\n", text.c_str());
  std::abort();
}

// Pixels of a window, rows without gaps.
struct Decoded {
  Size size;  // of the whole image
  Window window;
  std::vector<uint8_t> pixels;
};

struct Outcome {
  std::optional<Decoded> decoded;
  std::string refusal;  // where nothing was decoded; empty where the image is too large to try
};

// The last eight bytes choose it: decoders ignore what lies behind the end of an image.
inline Window window_of(const uint8_t* data, size_t bytes, const Size& size) {
  uint8_t last[8] = {};
  const size_t count = bytes < sizeof last ? bytes : sizeof last;
  if (count > 0) std::memcpy(last + sizeof last - count, data + bytes - count, count);
  const auto pick = [&](int i, int limit) { return (last[2 * i] << 8 | last[2 * i + 1]) % limit; };
  Window window;
  window.top = pick(0, size.height);
  window.left = pick(1, size.width);
  window.bottom = window.top + 1 + pick(2, size.height - window.top);
  window.right = window.left + 1 + pick(3, size.width - window.left);
  return window;
}

// Decodes the whole image, or the input's window of it. The rows have gaps, and they must stay as they were.
inline Outcome decode(Decoder& decoder, const uint8_t* data, size_t bytes, int channels, bool whole) {
  constexpr uint8_t kGuard = 0xA5;
  constexpr size_t kGap = 40;
  Outcome outcome;
  try {
    const Size size = decoder.open(data, bytes);
    if (size.height < 1 || size.width < 1) finding("an image without pixels");
    if (int64_t{size.height} * size.width > kRules.max_pixels) finding("an image beyond the limit");
    if (int64_t{size.height} * size.width > kMaxDecoded) return outcome;
    const Window window = whole ? Window{0, size.height, 0, size.width} : window_of(data, bytes, size);
    const size_t rows = window.bottom - window.top, columns = channels * (window.right - window.left);
    const size_t stride = columns + kGap;
    std::vector<uint8_t> memory(rows * stride, kGuard);
    decoder.read(window, memory.data(), static_cast<ptrdiff_t>(stride));
    Decoded decoded{size, window, {}};
    for (size_t y = 0; y < rows; ++y) {
      const uint8_t* row = memory.data() + y * stride;
      decoded.pixels.insert(decoded.pixels.end(), row, row + columns);
      for (size_t x = columns; x < stride; ++x) {
        if (row[x] != kGuard) finding("bytes behind row " + std::to_string(y) + " were written");
      }
    }
    outcome.decoded = std::move(decoded);
  } catch (const DecodeError& error) {
    outcome.refusal = error.what();
    if (outcome.refusal.empty()) finding("a refusal without words");
  }
  return outcome;
}

// Whether a window's pixels are those of the same part of the whole image.
inline bool equal_part(const Decoded& part, const Decoded& whole, int channels) {
  if (part.size.height != whole.size.height || part.size.width != whole.size.width) return false;
  const Window& w = part.window;
  const size_t columns = channels * (w.right - w.left);
  for (int y = w.top; y < w.bottom; ++y) {
    const size_t from = channels * (static_cast<size_t>(y) * whole.size.width + w.left);
    if (std::memcmp(part.pixels.data() + (y - w.top) * columns, whole.pixels.data() + from, columns) != 0)
      return false;
  }
  return true;
}

inline std::string text_of(const Window& w) {
  return "rows " + std::to_string(w.top) + " to " + std::to_string(w.bottom) + ", columns " +
         std::to_string(w.left) + " to " + std::to_string(w.right);
}

// Decodes the whole, then the window with the same decoder, as the loader does with its own. What decodes as
// a whole must give the same pixels in a window; with `both`, what is refused as a whole must be in a window
// too.
inline Outcome check_windows(Decoder& decoder, const uint8_t* data, size_t bytes, int channels, bool both) {
  Outcome whole = decode(decoder, data, bytes, channels, true);
  const Outcome part = decode(decoder, data, bytes, channels, false);
  if (whole.decoded && !part.decoded) finding("the whole is decoded, a window refused: " + part.refusal);
  if (both && part.decoded && !whole.decoded) {
    finding("a window is decoded, the whole refused: " + whole.refusal);
  }
  if (whole.decoded && !equal_part(*part.decoded, *whole.decoded, channels)) {
    finding("other pixels than the whole's: " + text_of(part.decoded->window));
  }
  return whole;
}

}  // namespace deeplab_fast
