"""Resampling as OpenCV does it, computed only for the pixels that a crop keeps.

Sampling positions and the bicubic kernel (a = -0.75) are those of ``cv2.resize`` with INTER_CUBIC,
INTER_LINEAR and INTER_NEAREST; no antialiasing. Sums are exact integers, as ``csrc/core/resample.h``
describes; the NumPy reference here is their specification and gives the same bits.
"""

import numpy as np
from numpy.typing import NDArray

from .. import extension

Image = NDArray[np.uint8]

_CUBIC_A = np.float32(-0.75)
_WEIGHT_ONE = 1 << 14  # a weight of 1
_COLOUR_BITS = 12
_FIRST_SHIFT, _SECOND_SHIFT = 7, 21  # column sums keep 7 of the weights' 14 fractional bits


def _step(source: int, target: int) -> float:
    """Return the source pixels per target pixel; two roundings, as OpenCV."""
    return 1.0 / (target / source)


def nearest_index(source: int, target: int, begin: int, end: int) -> NDArray[np.int64]:
    """Return the nearest source pixels of target pixels ``begin`` to ``end``: ``[end - begin]``."""
    index = np.floor(np.arange(begin, end) * _step(source, target)).astype(np.int64)
    return np.minimum(index, source - 1)


def taps(source: int, target: int, begin: int, end: int, bicubic: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return source indexes and weights x 16384 of target pixels ``begin`` to ``end``: both ``[end - begin, 4]``.

    Pixels beyond the border repeat the border's. Each pixel's weights sum to 16384: what rounding
    lost or gained goes to the heavier of the two inner taps. Bilinear leaves the outer two at 0.
    """
    position = ((np.arange(begin, end) + 0.5) * _step(source, target) - 0.5).astype(np.float32)
    base = np.floor(position)
    t = (position - base).astype(np.float32)
    if bicubic:
        a = _CUBIC_A
        w0 = ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a
        w1 = ((a + 2) * t - (a + 3)) * t * t + 1
        w2 = ((a + 2) * (1 - t) - (a + 3)) * (1 - t) * (1 - t) + 1
        weight = np.stack([w0, w1, w2, 1 - w0 - w1 - w2], axis=1)
    else:
        weight = np.stack([np.zeros_like(t), 1 - t, t, np.zeros_like(t)], axis=1)
    rounded = np.rint(weight * _WEIGHT_ONE).astype(np.int64)
    rounded[np.arange(len(t)), np.where(t < 0.5, 1, 2)] += _WEIGHT_ONE - rounded.sum(axis=1)
    index = base.astype(np.int64)[:, None] + np.arange(-1, 3)
    return np.clip(index, 0, source - 1), rounded


def _shifted(sums: NDArray[np.int32], bits: int) -> NDArray[np.int32]:
    """Return ``sums / 2**bits``, halves upward."""
    return (sums + (1 << (bits - 1))) >> bits


def resample_reference(image: Image, size: tuple[int, int], window: tuple[int, int, int, int], bicubic: bool) -> Image:
    """Resize ``image`` ``[H, W, 3]`` to ``size`` and return ``window`` (top, bottom, left, right) of it.

    First columns are summed, then rows.
    """
    top, bottom, left, right = window
    row_index, row_weight = taps(image.shape[0], size[0], top, bottom, bicubic)
    col_index, col_weight = taps(image.shape[1], size[1], left, right, bicubic)
    x0, x1 = int(col_index.min()), int(col_index.max()) + 1
    needed = image[:, x0:x1].astype(np.int32)
    row_weight, col_weight = row_weight.astype(np.int32), col_weight.astype(np.int32)
    columns = np.zeros((bottom - top, x1 - x0, 3), np.int32)
    for k in range(4):
        columns += needed[row_index[:, k]] * row_weight[:, k, None, None]
    columns = _shifted(columns - 128 * _WEIGHT_ONE, _FIRST_SHIFT)  # less 128: so they fit 16 bits natively
    rows = np.zeros((bottom - top, right - left, 3), np.int32)
    for k in range(4):
        rows += columns[:, col_index[:, k] - x0] * col_weight[:, k, None]
    return np.clip(_shifted(rows, _SECOND_SHIFT) + 128, 0, 255).astype(np.uint8)


def resample_label_reference(label: Image, size: tuple[int, int], window: tuple[int, int, int, int]) -> Image:
    """Resize ``label`` ``[H, W]`` to ``size``, each pixel the nearest, and return ``window`` of it."""
    top, bottom, left, right = window
    rows = nearest_index(label.shape[0], size[0], top, bottom)
    cols = nearest_index(label.shape[1], size[1], left, right)
    return label[rows[:, None], cols]


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
    native = extension.load()[0]
    if native is None:
        return resample_reference(image, size, window, bicubic), resample_label_reference(label, size, window)
    return native.resample_image(image, size, window, bicubic), native.resample_label(label, size, window)


def resize_bilinear(image: Image, size: tuple[int, int]) -> Image:
    """Resize a uint8 ``[H, W, 3]`` image bilinearly to ``size`` (height, width), as ``cv2.resize`` does."""
    native = extension.load()[0]
    window = (0, size[0], 0, size[1])
    if native is None:
        return resample_reference(image, size, window, bicubic=False)
    return native.resample_image(image, size, window, False)


def apply_colour(image: Image, matrix: NDArray[np.int32]) -> Image:
    """Map RGB by ``matrix`` int32 ``[3, 4]`` in units of 1/4096, its last column added, on the 0-255 scale."""
    sums = image.astype(np.int32) @ matrix[:, :3].T + matrix[:, 3]
    return np.clip(_shifted(sums, _COLOUR_BITS), 0, 255).astype(np.uint8)
