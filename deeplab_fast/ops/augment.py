"""Resampling as OpenCV does it, computed only for the pixels that a crop keeps.

Sampling positions and the bicubic kernel (a = -0.75) are those of ``cv2.resize`` with INTER_CUBIC,
INTER_LINEAR and INTER_NEAREST; no antialiasing. NumPy, one image at a time: the specification.
"""

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

_CUBIC_A = np.float32(-0.75)


def nearest_index(source: int, target: int, begin: int, end: int) -> NDArray[np.int64]:
    """Source index of target pixels ``[begin, end)`` when ``source`` pixels are resized to ``target``."""
    scale = 1.0 / (target / source)  # two roundings, as OpenCV
    return np.minimum(np.floor(np.arange(begin, end) * scale).astype(np.int64), source - 1)


def taps(
    source: int, target: int, begin: int, end: int, bicubic: bool
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Source indexes and weights of target pixels ``[begin, end)``: both ``[end - begin, 2 or 4]``.

    Pixels beyond the border repeat the border's.
    """
    scale = 1.0 / (target / source)
    position = ((np.arange(begin, end) + 0.5) * scale - 0.5).astype(np.float32)
    base = np.floor(position)
    t = (position - base).astype(np.float32)
    first = base.astype(np.int64)
    if not bicubic:
        t = np.where((first < 0) | (first >= source - 1), np.float32(0.0), t)
        index = np.stack([first, first + 1], axis=1)
        weight = np.stack([1.0 - t, t], axis=1)
    else:
        a = _CUBIC_A
        w0 = ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a
        w1 = ((a + 2) * t - (a + 3)) * t * t + 1
        w2 = ((a + 2) * (1 - t) - (a + 3)) * (1 - t) * (1 - t) + 1
        index = np.stack([first - 1, first, first + 1, first + 2], axis=1)
        weight = np.stack([w0, w1, w2, 1 - w0 - w1 - w2], axis=1)
    return np.clip(index, 0, source - 1), weight.astype(np.float32)


def _resample(
    image: Image, size: tuple[int, int], window: tuple[int, int, int, int], bicubic: bool
) -> NDArray[np.float32]:
    top, bottom, left, right = window
    row_index, row_weight = taps(image.shape[0], size[0], top, bottom, bicubic)
    col_index, col_weight = taps(image.shape[1], size[1], left, right, bicubic)
    x0, x1 = int(col_index.min()), int(col_index.max()) + 1
    needed = image[:, x0:x1].astype(np.float32)
    rows = needed[row_index[:, 0]] * row_weight[:, 0, None, None]
    for k in range(1, row_index.shape[1]):
        rows += needed[row_index[:, k]] * row_weight[:, k, None, None]
    out = rows[:, col_index[:, 0] - x0] * col_weight[:, 0, None]
    for k in range(1, col_index.shape[1]):
        out += rows[:, col_index[:, k] - x0] * col_weight[:, k, None]
    return out


def crop_resample(
    image: Image, label: Image, size: tuple[int, int], window: tuple[int, int, int, int], bicubic: bool = True
) -> tuple[Image, Image]:
    """Resize image and label to ``size`` (height, width) and return ``window`` of them.

    Args:
        image: uint8 ``[H, W, 3]``.
        label: uint8 ``[H, W]``, resized to the nearest pixel.
        window: top, bottom, left, right in the resized image, within ``size``.
        bicubic: the image's kernel; False for bilinear.

    Returns:
        uint8 ``[bottom-top, right-left, 3]`` and ``[bottom-top, right-left]``. Only these pixels are computed.
    """
    top, bottom, left, right = window
    sampled = _resample(image, size, window, bicubic)
    rows = nearest_index(label.shape[0], size[0], top, bottom)
    cols = nearest_index(label.shape[1], size[1], left, right)
    return np.rint(np.clip(sampled, 0, 255)).astype(np.uint8), label[rows[:, None], cols]


def resize_bilinear(image: Image, size: tuple[int, int]) -> Image:
    """Bilinear resize of a uint8 ``[H, W, 3]`` image to ``size`` (height, width), as ``cv2.resize``."""
    sampled = _resample(image, size, (0, size[0], 0, size[1]), bicubic=False)
    return np.rint(sampled).astype(np.uint8)
