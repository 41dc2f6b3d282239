"""Figures of merit of a confusion matrix."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bootstrap import Interval, miou_interval
from .per_image import ImageCounts

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Scores of a confusion matrix ``[C, C]`` (rows: truth, columns: prediction).

    ``iou`` is NaN for a class that neither truth nor prediction contains; ``miou`` is the mean over
    the others (Everingham et al., "The PASCAL visual object classes challenge", section 4.3). Where the truth holds one
    class or none it is NaN: a network that knows no other class would get 1.

    ``images`` counts the samples; ``skipped`` says of each that could not be used why. ``per_image`` has the counts of
    each, ``boundary`` those of the classes' boundaries, int64 ``[C, 3]`` (in both, in the truth's, in the
    prediction's), where they were asked for.
    """

    confusion: NDArray[np.int64]
    images: int = 0
    skipped: tuple[str, ...] = ()
    per_image: ImageCounts | None = None
    boundary: NDArray[np.int64] | None = None

    @property
    def hits(self) -> NDArray[np.int64]:
        """Pixels of each class that were found: ``[C]``."""
        return np.diag(self.confusion)

    @property
    def truth(self) -> NDArray[np.int64]:
        """Pixels of each class in the truth: ``[C]``."""
        return self.confusion.sum(1)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Labelled pixels that each class was predicted for: ``[C]``."""
        return self.confusion.sum(0)

    @property
    def true_classes(self) -> int:
        """Number of classes that the truth holds."""
        return int((self.truth > 0).sum())

    @property
    def iou(self) -> Values:
        """Intersection over union of each class: ``[C]``."""
        return _ratio(self.hits, self.predicted + self.truth - self.hits)

    @property
    def miou(self) -> float:
        return float(np.nanmean(self.iou)) if self.true_classes > 1 else float("nan")

    @cached_property
    def interval(self) -> Interval | None:
        """The bootstrap's interval of ``miou``; None without ``per_image``, of one image, or where there is no mIoU."""
        if self.per_image is None or np.isnan(self.miou):
            return None
        return miou_interval(self.per_image, len(self.confusion))

    @property
    def pixel_accuracy(self) -> float:
        """Share of the labelled pixels whose class was found; 0 where there is none."""
        total = self.confusion.sum()
        return float(self.hits.sum() / total) if total else 0.0

    @property
    def recall(self) -> Values:
        """Share of each true class's pixels found, its accuracy: ``[C]``, NaN where the truth has none."""
        return _ratio(self.hits, self.truth)

    @property
    def precision(self) -> Values:
        """Share of each predicted class's pixels that are right: ``[C]``, NaN where the prediction has none."""
        return _ratio(self.hits, self.predicted)

    @property
    def dice(self) -> Values:
        """Twice the intersection over the sum of both, which is F1: ``[C]``, NaN as ``iou``."""
        return _ratio(2 * self.hits, self.truth + self.predicted)

    @property
    def mean_accuracy(self) -> float:
        """Mean of ``recall`` over the truth's classes; NaN where it has none."""
        return _mean(self.recall)

    @property
    def frequency_weighted_iou(self) -> float:
        """Mean of ``iou`` over the truth's classes, weighted by their pixels; NaN where there are none."""
        total = self.truth.sum()
        return float(np.nansum(self.iou * self.truth) / total) if total else float("nan")

    @property
    def boundary_iou(self) -> Values | None:
        """Boundary IoU of each class: ``[C]``, NaN where neither has any; None where it was not counted."""
        if self.boundary is None:
            return None
        both, truth, predicted = self.boundary.T
        return _ratio(both, truth + predicted - both)

    def as_record(self) -> dict[str, Any]:
        """Return ``miou`` (null where the truth holds fewer than two classes), ``per_class_iou`` (null for absent
        classes), ``pixel_accuracy``, ``images`` and, where there are any, the ``skipped``.
        """
        return {
            "miou": or_none(self.miou),
            "per_class_iou": [or_none(v) for v in self.iou],
            "pixel_accuracy": self.pixel_accuracy,
            "images": self.images,
            **({"skipped": list(self.skipped)} if self.skipped else {}),
        }


def or_none(value: float) -> float | None:
    """Return a number as JSON has it: NaN is null."""
    return None if np.isnan(value) else float(value)


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> Values:
    """Return ``part / whole``, ``[C]`` each, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _mean(values: Values) -> float:
    return float("nan") if np.isnan(values).all() else float(np.nanmean(values))
