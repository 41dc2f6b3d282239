// From coefficients to pixels, the same bits as libjpeg's accurate integer DCT and fancy upsampling.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace deeplab_fast {

// Whether this processor can run the functions below, and those of jpeg_entropy.h.
bool has_jpeg_pixels();

// 8 x 8 samples from a block of coefficients (natural order) and its quantisation table. `dc_only`: all but
// the first are 0. False, and nothing written, where values are larger than any picture has: there
// libjpeg's 16-bit sums overflow.
bool inverse_dct(const int16_t* block, const int16_t* quantisation, bool dc_only, uint8_t* out,
                 ptrdiff_t stride);

// A row of chroma samples twice as wide. `near` and `far` are the chroma rows nearest to the output row,
// where chroma was halved in height too. `sums` is for `samples` + 2 values.
void widen_row(const uint8_t* near, const uint8_t* far, bool halved_height, int samples, uint16_t* sums,
               uint8_t* out);

// YCbCr (JFIF) to RGB.
void ycc_to_rgb(const uint8_t* y, const uint8_t* cb, const uint8_t* cr, int pixels, uint8_t* rgb);

}  // namespace deeplab_fast
