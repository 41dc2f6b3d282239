"""Labels of a set in any format: the classes, and for each image how its index map is drawn."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Label = NDArray[np.uint8]
Draw = Callable[[Label], None]
"""Puts one shape's value into an index map, uint8 ``[H, W]``."""
Make = Callable[[tuple[int, int]], tuple[Label, Counter[str]]]
"""Makes the index map of an image of this height and width; counts by kind what it ignored."""


@dataclass(frozen=True)
class ImageLabel:
    """An image, the words that name its label in errors, and how that is made; ``size``: as the label states it."""

    image: Path
    where: str
    make: Make
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class LabelSet:
    """Labels of a set. ``names`` of the classes: empty where the values alone say how many there are.

    ``left_out`` counts by kind what was read and is in no label.
    """

    names: list[str]
    labels: list[ImageLabel]
    without: list[Path] = field(default_factory=list)  # images that have no label
    left_out: Counter[str] = field(default_factory=Counter)


def drawn(shapes: Sequence[Draw]) -> Make:
    """Return what draws shapes in their order, the later over the earlier, on class 0: uint8 ``[H, W]``."""

    def make(size: tuple[int, int]) -> tuple[Label, Counter[str]]:
        label = np.zeros(size, np.uint8)
        for draw in shapes:
            draw(label)
        return label, Counter()

    return make
