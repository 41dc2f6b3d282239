"""Masks as lengths of runs, 0 and 1 in turn, 0 first: COCO's, down the columns, and CVAT's, along the rows.

Lengths are checked here before any memory is taken for them: they come from a file.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deeplab_fast.errors import UserError

from .label_set import Label

Runs = NDArray[np.int64]


def read_runs(counts: Any, pixels: int, where: str) -> Runs:
    """Return the lengths ``[N]`` of runs over ``pixels`` pixels, from whole numbers or COCO's compressed text.

    Raises:
        UserError: they are no such lengths, or do not come to ``pixels``.
    """
    if isinstance(counts, str):
        counts = _uncompressed(counts, where)
    if not isinstance(counts, list) or not all(type(count) is int and 0 <= count <= pixels for count in counts):
        raise UserError(f"{where}: run lengths that are no whole numbers from 0 to {pixels:,}")
    if sum(counts) != pixels:
        raise UserError(f"{where}: runs of {sum(counts):,} pixels; expected {pixels:,}")
    return np.array(counts, np.int64)


def fill_runs(
    label: Label, runs: Runs, value: int, top: int, left: int, height: int, width: int, order: Literal["C", "F"]
) -> None:
    """Put ``value`` where runs ``[N]`` of the box at ``top``, ``left`` are 1; what hangs over ``[H, W]`` is cut off.

    ``order``: "C" along the rows, "F" down the columns.
    """
    mask = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape((height, width), order=order)
    rows, columns = slice(max(top, 0), max(top + height, 0)), slice(max(left, 0), max(left + width, 0))
    window = label[rows, columns]
    above, before = max(-top, 0), max(-left, 0)
    window[mask[above : above + window.shape[0], before : before + window.shape[1]]] = value


def _uncompressed(text: str, where: str) -> list[int]:
    """Return the lengths in COCO's text: six bits a letter from '0' on, five of a number and whether more follow.

    From the fourth on a number is the difference from the length two before.
    """
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise UserError(f"{where}: 'counts' is no compressed RLE")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise UserError(f"{where}: 'counts' is no compressed RLE: cut off")
    return counts
