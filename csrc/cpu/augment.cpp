// Decoded pixels to a finished crop in one pass: resample, flip, distort, pad.
#include <cstring>

#include "resample_rows.h"

namespace deeplab_fast {
namespace {

constexpr int kBorder = 2;  // pixels repeated at each end of a row: taps reach so far beyond the image

// The resized row or column that output `i` of `count` shows.
int resized_index(int begin, int count, int i, bool flip) { return begin + (flip ? count - 1 - i : i); }

// A row of column sums with its end pixels repeated, so that the row's taps need no clamping.
void repeat_border(int16_t* row, int pixels) {
  for (int k = 0; k < kBorder; ++k) {
    std::memcpy(row + 3 * k, row + 3 * kBorder, 3 * sizeof *row);
    std::memcpy(row + 3 * (kBorder + pixels + k), row + 3 * (kBorder + pixels - 1), 3 * sizeof *row);
  }
}

void distort(const ColourMatrix& colour, int pixels, uint8_t* row) {
  for (int x = 0; x < pixels; ++x, row += 3) {
    const int r = row[0], g = row[1], b = row[2];
    for (int c = 0; c < 3; ++c) row[c] = apply_colour(colour.value[c], r, g, b);
  }
}

}  // namespace

void resample_image(const Pixels& image, const Crop& crop, bool bicubic, AugmentScratch& scratch,
                    uint8_t* out, ptrdiff_t out_stride) {
  const RowLoops& loops = row_loops();
  const int rows = crop.kept.bottom - crop.kept.top, columns = crop.kept.right - crop.kept.left;
  const int pixels = image.window.right - image.window.left;
  scratch.columns.resize(columns);
  const double step_x = source_step(crop.source_width, crop.width);
  for (int x = 0; x < columns; ++x) {
    Taps& taps = scratch.columns[x];
    taps = taps_of(step_x, resized_index(crop.kept.left, columns, x, crop.flip), bicubic);
    taps.first += kBorder - image.window.left;
  }
  RowPlan& plan = scratch.plan;
  plan.values = 3 * columns;
  plan.bicubic = bicubic;
  plan.taps = scratch.columns.data();
  loops.plan_row(plan);
  scratch.sums.resize(3 * (static_cast<size_t>(pixels) + 2 * kBorder) + kRowSlack);
  int16_t* sums = scratch.sums.data();
  const double step_y = source_step(crop.source_height, crop.height);
  for (int y = 0; y < rows; ++y, out += out_stride) {
    const Taps taps = taps_of(step_y, crop.kept.top + y, bicubic);
    const uint8_t* source[4];
    for (int k = 0; k < 4; ++k) {
      const int row = clamp_index(taps.first + k, crop.source_height);
      source[k] = image.data + (row - image.window.top) * image.stride;
    }
    loops.sum_columns(source, taps.weight, bicubic, 3 * pixels, sums + 3 * kBorder);
    repeat_border(sums, pixels);
    loops.sum_row(plan, sums, out);
  }
}

void resample_label(const Pixels& label, const Crop& crop, AugmentScratch& scratch, uint8_t* out,
                    ptrdiff_t out_stride) {
  const int rows = crop.kept.bottom - crop.kept.top, columns = crop.kept.right - crop.kept.left;
  scratch.label_columns.resize(columns);
  const double step_x = source_step(crop.source_width, crop.width);
  for (int x = 0; x < columns; ++x) {
    const int resized = resized_index(crop.kept.left, columns, x, crop.flip);
    scratch.label_columns[x] = nearest_index(step_x, crop.source_width, resized) - label.window.left;
  }
  const int32_t* index = scratch.label_columns.data();
  const RowLoops& loops = row_loops();
  const double step_y = source_step(crop.source_height, crop.height);
  int previous = -1;
  for (int y = 0; y < rows; ++y, out += out_stride) {
    const int row = nearest_index(step_y, crop.source_height, crop.kept.top + y);
    if (row == previous) {
      std::memcpy(out, out - out_stride, columns);
      continue;
    }
    previous = row;
    const uint8_t* source = label.data + (row - label.window.top) * label.stride;
    loops.pick(source, label.window.right - label.window.left, index, columns, out);
  }
}

void augment(const Pixels& image, const Pixels& label, const Crop& crop, const CropOptions& options,
             const ColourMatrix* colour, AugmentScratch& scratch, uint8_t* out_image, uint8_t* out_label) {
  const size_t size = options.crop_size;
  const size_t rows = crop.kept.bottom - crop.kept.top, columns = crop.kept.right - crop.kept.left;
  const size_t before = crop.column, after = size - columns - before;
  resample_image(image, crop, options.bicubic, scratch, out_image + 3 * before, 3 * size);
  resample_label(label, crop, scratch, out_label + before, size);
  for (size_t y = 0; y < rows; ++y) {
    uint8_t *pixels = out_image + 3 * size * y, *classes = out_label + size * y;
    if (colour != nullptr) distort(*colour, static_cast<int>(columns), pixels + 3 * before);
    std::memset(pixels, 0, 3 * before);
    std::memset(pixels + 3 * (before + columns), 0, 3 * after);
    std::memset(classes, options.ignore_label, before);
    std::memset(classes + before + columns, options.ignore_label, after);
  }
  std::memset(out_image + 3 * size * rows, 0, 3 * size * (size - rows));
  std::memset(out_label + size * rows, options.ignore_label, size * (size - rows));
}

void augment_ragged(const uint8_t* images, const uint8_t* labels, const Sample* samples, int count,
                    const CropOptions& options, uint8_t* out_images, uint8_t* out_labels, int32_t* extents) {
  AugmentScratch scratch;
  const size_t pixels = static_cast<size_t>(options.crop_size) * options.crop_size;
  for (int i = 0; i < count; ++i) {
    const Sample& sample = samples[i];
    const Pixels image{images + sample.image_offset, 3 * ptrdiff_t{sample.image.right - sample.image.left},
                       sample.image};
    const Pixels label{labels + sample.label_offset, sample.label.right - sample.label.left, sample.label};
    augment(image, label, sample.crop, options, sample.has_colour ? &sample.colour : nullptr, scratch,
            out_images + 3 * pixels * i, out_labels + pixels * i);
    write_extent(sample.crop, extents + 4 * i);
  }
}

}  // namespace deeplab_fast
