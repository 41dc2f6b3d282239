"""Colours of classes."""

import numpy as np
from numpy.typing import NDArray


def palette(n: int = 256) -> NDArray[np.uint8]:
    """Return VOC's colours: uint8 ``[n, 3]``; the bits of a class index spread over the channels' high bits."""
    colours = np.zeros((n, 3), np.uint8)
    for i in range(n):
        for bit in range(8):
            for channel in range(3):
                colours[i, channel] |= ((i >> (3 * bit + channel)) & 1) << (7 - bit)
    return colours
