// The recipe's random scale, crop and flip: which part of which resized image a sample keeps.
#pragma once

#include <stdint.h>

#include "colour.h"
#include "host_device.h"
#include "resample.h"

namespace deeplab_fast {

// What is the same for every sample.
struct CropOptions {
  int crop_size;
  double min_scale, max_scale;
  bool bicubic;
  int ignore_label;
};

// What chance decides for one sample; each in [0, 1).
struct Draws {
  double scale, top, left, flip;
};

// A rectangle of pixels; bottom and right are exclusive.
struct Window {
  int top, bottom, left, right;
};

// Of one sample: the source's size, the size it is resized to, the part of that which the crop keeps,
// and where that part begins in the crop's columns (not 0 where a flip moves the padding to the left).
struct Crop {
  int source_height, source_width;
  int height, width;
  Window kept;
  int column;
  bool flip;
};

DEEPLAB_FAST_HD int at_least_one(double value) { return value < 1.0 ? 1 : static_cast<int>(value); }

DEEPLAB_FAST_HD Crop choose_crop(int source_height, int source_width, const Draws& draws,
                                 const CropOptions& options) {
  const double scale = options.min_scale + (options.max_scale - options.min_scale) * draws.scale;
  const int size = options.crop_size;
  Crop crop;
  crop.source_height = source_height;
  crop.source_width = source_width;
  crop.height = at_least_one(scale * source_height);
  crop.width = at_least_one(scale * source_width);
  const int room_y = crop.height > size ? crop.height - size : 0;
  const int room_x = crop.width > size ? crop.width - size : 0;
  crop.kept.top = static_cast<int>(draws.top * (room_y + 1));
  crop.kept.left = static_cast<int>(draws.left * (room_x + 1));
  crop.kept.bottom = crop.kept.top + (crop.height < size ? crop.height : size);
  crop.kept.right = crop.kept.left + (crop.width < size ? crop.width : size);
  crop.flip = draws.flip >= 0.5;
  crop.column = crop.flip ? size - (crop.kept.right - crop.kept.left) : 0;
  return crop;
}

// Source rows or columns [first, last) that resized pixels [begin, end) read: of the image or of the label.
DEEPLAB_FAST_HD void source_range(int source, int resized, int begin, int end, bool label, int* first,
                                  int* last) {
  const double step = source_step(source, resized);
  if (label) {
    *first = nearest_index(step, source, begin);
    *last = nearest_index(step, source, end - 1) + 1;
  } else {
    *first = clamp_index(taps_of(step, begin, true).first, source);
    *last = clamp_index(taps_of(step, end - 1, true).first + 3, source) + 1;
  }
}

// The source pixels that a crop reads; bilinear sampling reads a pixel less at each side.
DEEPLAB_FAST_HD Window source_window(const Crop& crop, bool label) {
  Window window;
  source_range(crop.source_height, crop.height, crop.kept.top, crop.kept.bottom, label, &window.top,
               &window.bottom);
  source_range(crop.source_width, crop.width, crop.kept.left, crop.kept.right, label, &window.left,
               &window.right);
  return window;
}

// Top, bottom, left and right of the crop's pixels that are image.
DEEPLAB_FAST_HD void write_extent(const Crop& crop, int32_t* extent) {
  extent[0] = 0;
  extent[1] = crop.kept.bottom - crop.kept.top;
  extent[2] = crop.column;
  extent[3] = crop.column + crop.kept.right - crop.kept.left;
}

// One sample of a ragged batch: its crop, and where its pixels lie in the batch's memory.
struct Sample {
  Crop crop;
  Window image, label;                 // the source pixels that are there
  int64_t image_offset, label_offset;  // of the first of them, in bytes
  int64_t image_room, label_room;      // bytes that may be written there
  int32_t has_colour;
  ColourMatrix colour;
};

}  // namespace deeplab_fast
