"""The table of classes, and the confusion matrix as a picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..evaluation.metrics import Scores, or_none

_WIDEST = 600  # of the confusion matrix, in the units of its SVG
_LARGEST = 42  # side of a cell
_SMALLEST_SHARE = 0.0005  # of a row's pixels: below it a cell stays empty


@dataclass(frozen=True)
class ClassRow:
    """The figures of a class; None where it does not occur. ``mistaken_for`` holds most of its missed pixels.

    ``share`` is that of the labelled pixels, ``mistaken`` that of the class's own pixels.
    """

    index: int
    name: str
    iou: float | None
    precision: float | None
    recall: float | None
    share: float
    mistaken_for: str
    mistaken: float | None


@dataclass(frozen=True)
class Cell:
    """A cell of the confusion matrix: ``share`` of its row's pixels."""

    row: int
    column: int
    share: float
    pixels: int

    @property
    def opacity(self) -> float:
        """Strength of its colour: small shares are lifted, so that they are seen."""
        return round(0.08 + 0.92 * self.share**0.6, 3)


@dataclass(frozen=True)
class HeatMap:
    """The confusion matrix of the classes that occur: ``side`` of a cell, ``margin`` for the names, in SVG units."""

    names: tuple[str, ...]
    cells: tuple[Cell, ...]
    side: int
    margin: int
    absent: int


def class_rows(confusion: NDArray[np.int64], names: Sequence[str]) -> list[ClassRow]:
    """Return the figures of each class of a confusion matrix ``[C, C]`` (rows: truth)."""
    scores = Scores(confusion)
    truth = confusion.sum(1)
    total = max(1, int(truth.sum()))
    rows = []
    for i, name in enumerate(names):
        missed = confusion[i].copy()
        missed[i] = 0
        other = int(missed.argmax())
        is_mistaken = bool(missed[other] > 0)
        rows.append(
            ClassRow(
                i,
                name,
                or_none(float(scores.iou[i])),
                or_none(float(scores.precision[i])),
                or_none(float(scores.recall[i])),
                float(truth[i] / total),
                names[other] if is_mistaken else "",
                float(missed[other] / truth[i]) if is_mistaken else None,
            )
        )
    return rows


def heat_map(confusion: NDArray[np.int64], names: Sequence[str]) -> HeatMap:
    """Lay out a confusion matrix ``[C, C]`` (rows: truth), each row as shares of its pixels."""
    present = np.flatnonzero(confusion.sum(0) + confusion.sum(1)).tolist()
    shown = confusion[np.ix_(present, present)]
    shares = shown / np.maximum(1, shown.sum(1, keepdims=True))
    cells = tuple(
        Cell(int(r), int(c), float(shares[r, c]), int(shown[r, c])) for r, c in np.argwhere(shares >= _SMALLEST_SHARE)
    )
    side = max(4, min(_LARGEST, _WIDEST // max(1, len(present))))
    longest = max((len(names[i]) for i in present), default=0)
    return HeatMap(tuple(names[i] for i in present), cells, side, 16 + 7 * min(24, longest), len(names) - len(present))
