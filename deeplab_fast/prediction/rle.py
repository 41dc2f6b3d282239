"""Masks as COCO's compressed run lengths."""

import numpy as np
from numpy.typing import NDArray


def encode_rle(mask: NDArray[np.bool_]) -> str:
    """Return a mask ``[H, W]`` as COCO's compressed text: lengths of runs down the columns, 0 and 1 in turn, 0 first.

    From the fourth on a length stands as its difference from the one two before; a number is letters from ``0`` on,
    five bits each, the lowest first, and a sixth that says that more follow (the last one's fifth bit is the sign).
    """
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0] if flat[0] else [], [0], changes, [flat.size]]).astype(np.int64)
    lengths = np.diff(edges)
    values = lengths.copy()
    values[3:] -= lengths[1:-2]
    return "".join(_letters(value) for value in values.tolist())


def _letters(value: int) -> str:
    letters = ""
    while True:
        bits, value = value & 31, value >> 5
        is_last = value == (-1 if bits & 16 else 0)
        letters += chr(48 + (bits if is_last else bits | 32))
        if is_last:
            return letters


def box_of(mask: NDArray[np.bool_]) -> list[int]:
    """Return left, top, width and height of the pixels of a mask ``[H, W]`` that has any."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]
