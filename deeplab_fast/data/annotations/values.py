"""Masks whose classes are values: of 0 and 255, or class numbers to be numbered anew."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from deeplab_fast.data.sources import read_bytes
from deeplab_fast.errors import UserError
from deeplab_fast.ops import Decoding, decode_mask

from .label_set import ImageLabel, Label, LabelSet
from .numbering import check_names

_VALUES = 1 << 16
_NO_CLASS = -1
Table = NDArray[np.int32]


def binary_table(ignore_label: int, ignored: Iterable[int] = ()) -> Table:
    """Return what each value of a mask of 0 and 255 becomes: int32 ``[65536]``, -1 where it may not occur."""
    table = np.full(_VALUES, _NO_CLASS, np.int32)
    table[0], table[255] = 0, 1
    table[list(ignored)] = ignore_label
    return table


def index_table(ignore_label: int, ignored: Iterable[int] = (), reduce_zero: bool = False) -> Table:
    """Return what each class number of a file becomes: int32 ``[65536]``, -1 where it may not occur.

    ``ignored``: numbers of the file that become the ignore label. ``reduce_zero``: 0 becomes it too, and n becomes
    n - 1, but for 255, which is ignored already.
    """
    table = np.full(_VALUES, _NO_CLASS, np.int32)
    table[:256] = np.arange(256) - reduce_zero
    if reduce_zero:
        table[[0, 255]] = ignore_label
    table[list(ignored)] = ignore_label
    return table


def read_values(
    pairs: Sequence[tuple[Path, Path]],
    without: Sequence[Path],
    names: Sequence[str],
    names_from: str,
    table: Table,
    expected: str,
    ignore_label: int,
    decoding: Decoding,
) -> LabelSet:
    """Return the labels of masks, pairs of image and mask, whose values become what ``table`` ``[65536]`` says.

    Making one raises :class:`UserError` where a value may not occur or is no class: expected is what ``expected`` says.
    """
    if names:
        check_names(names, ignore_label, names_from)
    classes = f"one of {len(names)} classes ({names_from})" if names else ""
    make = partial(_make, table=table, names=len(names), classes=classes, expected=expected, ignore_label=ignore_label)
    labels = [ImageLabel(image, str(mask), partial(make, mask, decoding)) for image, mask in pairs]
    return LabelSet(list(names), labels, list(without))


def _make(
    path: Path,
    decoding: Decoding,
    _: tuple[int, int],
    table: Table,
    names: int,
    classes: str,
    expected: str,
    ignore_label: int,
) -> tuple[Label, Counter[str]]:
    stored = _stored(path, decoding)
    values = table[stored]
    if (values < 0).any():
        y, x = np.argwhere(values < 0)[0]
        raise UserError(f"{path}: value {stored[y, x]} at pixel {x},{y}; expected {expected}")
    wrong = (values >= names) & (values != ignore_label)
    if names and wrong.any():
        y, x = np.argwhere(wrong)[0]
        raise UserError(f"{path}: class {values[y, x]} at pixel {x},{y}; expected {classes} or {ignore_label}, ignored")
    return values.astype(np.uint8), Counter()


def is_binary(masks: Sequence[Path], decoding: Decoding) -> bool:
    """Tell whether masks hold 0 and 255, each somewhere, and nothing else: reads them until one does."""
    found: set[int] = set()
    for path in tqdm(masks, desc="look for 0 and 255", unit="mask", leave=False, disable=None):
        stored = _stored(path, decoding)
        found |= set(np.unique(stored).tolist())
        if not found <= {0, 255}:
            return False
    return found == {0, 255}


def _stored(path: Path, decoding: Decoding) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return a mask's values ``[H, W]``; those of colours where red, green and blue are alike."""
    pixels = decode_mask(read_bytes(path), str(path), decoding)
    if pixels.ndim == 2:
        return pixels
    coloured = (pixels[..., :3] != pixels[..., :1]).any(axis=2) | (pixels[..., 3] != 255)
    if coloured.any():
        y, x = np.argwhere(coloured)[0]
        colour = " ".join(map(str, pixels[y, x].tolist()))
        raise UserError(
            f"{path}: pixel {x},{y} has colour {colour} (red green blue alpha); expected values, or --palette: which"
            " class has which colour"
        )
    return pixels[..., 0]
