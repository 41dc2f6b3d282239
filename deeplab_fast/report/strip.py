"""One picture of a few samples, each a row: image, truth, prediction; for what shows pictures step by step."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import UserError
from .pictures import class_colours
from .subject import Subject

_SHOWN = 4  # samples
_SIDE = 192  # pixels of a panel, which is square
_GAP = 4


def spread(count: int) -> list[int]:
    """Return the indexes of a few of ``count`` samples, always the same, spread over all."""
    return np.unique(np.linspace(0, count - 1, min(_SHOWN, count)).astype(int)).tolist()


def strip_of(subject: Subject, indexes: Sequence[int]) -> NDArray[np.uint8]:
    """Draw image, truth and prediction of samples side by side, one below the other: RGB uint8 ``[H, W, 3]``.

    A sample that cannot be used leaves its row white.
    """
    colours = class_colours(subject.ignore_label)
    row, column = _SIDE + _GAP, 3 * (_SIDE + _GAP)
    picture = Image.new("RGB", (column - _GAP, row * len(indexes) - _GAP), "white")
    with subject.at_work():
        for i, index in enumerate(indexes):
            try:
                image, truth = subject.sample(index)
            except UserError:
                continue
            prediction = subject.predict(image, truth.shape)
            for k, panel in enumerate((image, colours[truth], colours[prediction])):
                small = Image.fromarray(panel)
                small.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
                picture.paste(small, (k * (_SIDE + _GAP), i * row))
    return np.asarray(picture)
