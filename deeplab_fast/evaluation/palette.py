"""Colours of classes."""

import numpy as np
from numpy.typing import NDArray


def palette(n: int = 256) -> NDArray[np.uint8]:
    """Return VOC's colours: uint8 ``[n, 3]``; the bits of a class index spread over the channels' high bits."""
    index, bit, channel = np.arange(n)[:, None, None], np.arange(8)[:, None], np.arange(3)
    bits = index >> (3 * bit + channel) & 1
    return (bits << (7 - bit)).sum(1).astype(np.uint8)
