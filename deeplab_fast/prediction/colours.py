"""Colours of classes: VOC's, or those of a palette file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data.annotations.colours import read_palette
from ..data.classes import own_names
from ..errors import UserError
from ..evaluation.palette import palette


def class_colours(file: str, names: Sequence[str], ignore_label: int) -> NDArray[np.uint8]:
    """Return a colour for each class, uint8 ``[256, 3]``: those of a palette file, VOC's where there is none.

    The file's colours go to the classes of the same ``names`` where the network has names and the file the same ones,
    in any order; else to the classes in the file's order. A class with several colours has the first.

    Raises:
        UserError: no readable palette, or not as many classes.
    """
    colours = palette()
    if not file:
        return colours
    found = read_palette(Path(file), ignore_label)
    if len(found.names) != len(names):
        raise UserError(f"--palette={file}: names {len(found.names)} classes; expected the network's {len(names)}")
    by_name = own_names(names) and set(found.names) == set(names)
    place = [list(names).index(name) for name in found.names] if by_name else list(range(len(names)))
    for code, number in reversed(found.numbers.items()):  # the first of a class last
        if number < len(place):
            colours[place[number]] = (code >> 16, code >> 8 & 255, code & 255)
    return colours
