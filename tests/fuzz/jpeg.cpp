// The image decoder on JPEG: no memory error, a window equals the same part of the whole, and what libjpeg
// decodes has the same pixels whichever decoder takes it.
#include "bounded.h"
#include "decoded.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  using namespace deeplab_fast;
  const Bounded bounded(4.0,
                        64);  // four decodes of at most kMaxDecoded pixels; a progressive one keeps its DCT
  make_baseline_decoder(kRules.max_pixels)->takes(data, bytes);
  const Outcome chosen = check_windows(*make_image_decoder(kRules), data, bytes, 3, true);
  if (bytes < 2 || data[0] != 0xFF || data[1] != 0xD8) return 0;
  const Outcome usual = check_windows(*make_jpeg_decoder(kRules.max_pixels), data, bytes, 3, true);
  if (usual.decoded.has_value() != chosen.decoded.has_value()) {
    finding("only one of the decoders takes it: " + usual.refusal + chosen.refusal);
  }
  if (usual.decoded && usual.decoded->pixels != chosen.decoded->pixels) {
    finding("the two decoders give different pixels");
  }
  return 0;
}
