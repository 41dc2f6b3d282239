// Which cell of a confusion matrix a pixel counts in.
#pragma once

#include <stdint.h>

#include "host_device.h"

namespace deeplab_fast {

constexpr int64_t kIgnored = -1;
constexpr int64_t kLabelOutOfRange = -2;
constexpr int64_t kPredictionOutOfRange = -3;

// Row-major cell of (label, prediction), or one of the negative codes. The ignore label may also be a class.
DEEPLAB_FAST_HD int64_t cell_of(int64_t label, int64_t prediction, int classes, int64_t ignore_label) {
  if (label == ignore_label) return kIgnored;
  if (label < 0 || label >= classes) return kLabelOutOfRange;
  if (prediction < 0 || prediction >= classes) return kPredictionOutOfRange;
  return label * classes + prediction;
}

}  // namespace deeplab_fast
