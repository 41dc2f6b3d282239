"""The pixels of each class."""

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = 1 << 20  # numpy.bincount makes 8 bytes of each pixel


def count_pixels(classes: NDArray[np.uint8], count: int) -> NDArray[np.int64]:
    """Count the pixels of classes ``[H, W]``, of which there are ``count``: int64, longer where a number is higher."""
    flat = classes.ravel()
    found = np.zeros(max(count, int(flat.max(initial=0)) + 1), np.int64)
    for first in range(0, flat.size, _AT_ONCE):
        part = np.bincount(flat[first : first + _AT_ONCE])
        found[: part.size] += part
    return found
