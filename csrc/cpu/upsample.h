// Bilinear upsampling as torch.nn.functional.interpolate(mode="bilinear") places it.
#pragma once

namespace deeplab_fast {

// Source pixels per target pixel.
inline float upsample_step(int source, int target, bool align_corners) {
  if (align_corners)
    return target > 1 ? static_cast<float>(source - 1) / static_cast<float>(target - 1) : 0.0f;
  return static_cast<float>(source) / static_cast<float>(target);
}

// Target pixel i lies between source pixels `low` and `high`, at share `t` of the way.
struct Between {
  int low, high;
  float t;
};

inline Between between(float step, int source, int i, bool align_corners) {
  float position = align_corners ? step * i : step * (i + 0.5f) - 0.5f;
  position = position < 0.0f ? 0.0f : position;
  Between result;
  result.low = static_cast<int>(position);
  if (result.low > source - 1) result.low = source - 1;
  result.high = result.low + 1 < source ? result.low + 1 : result.low;
  result.t = position - static_cast<float>(result.low);
  return result;
}

inline float lerp(float a, float b, float t) { return a * (1.0f - t) + b * t; }

}  // namespace deeplab_fast
