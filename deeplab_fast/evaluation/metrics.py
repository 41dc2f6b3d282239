"""Figures of merit of a confusion matrix."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scores:
    """Scores of a confusion matrix ``[C, C]`` (rows: truth, columns: prediction).

    ``iou`` is NaN for a class that neither truth nor prediction contains; ``miou`` is the mean over
    the others (Everingham et al., "The PASCAL visual object classes challenge", section 4.3). Where the truth holds one
    class or none it is NaN: a network that knows no other class would get 1.

    ``images`` counts the samples; ``skipped`` says of each that could not be used why.
    """

    confusion: NDArray[np.int64]
    images: int = 0
    skipped: tuple[str, ...] = ()

    @property
    def true_classes(self) -> int:
        """Number of classes that the truth holds."""
        return int((self.confusion.sum(1) > 0).sum())

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each class: ``[C]``."""
        hits = np.diag(self.confusion).astype(np.float64)
        union = self.confusion.sum(0) + self.confusion.sum(1) - hits
        return np.divide(hits, union, out=np.full_like(hits, np.nan), where=union > 0)

    @property
    def miou(self) -> float:
        return float(np.nanmean(self.iou)) if self.true_classes > 1 else float("nan")

    @property
    def pixel_accuracy(self) -> float:
        """Share of the labelled pixels whose class was found; 0 where there is none."""
        total = self.confusion.sum()
        return float(np.diag(self.confusion).sum() / total) if total else 0.0

    @property
    def class_accuracy(self) -> NDArray[np.float64]:
        """Share of each true class's pixels found: ``[C]``, NaN where the truth has none."""
        truth = self.confusion.sum(1).astype(np.float64)
        return np.divide(np.diag(self.confusion), truth, out=np.full_like(truth, np.nan), where=truth > 0)

    def as_record(self) -> dict[str, Any]:
        """Return ``miou`` (null where the truth holds fewer than two classes), ``per_class_iou`` (null for absent
        classes), ``pixel_accuracy``, ``images`` and, where there are any, the ``skipped``.
        """
        return {
            "miou": None if np.isnan(self.miou) else self.miou,
            "per_class_iou": [None if np.isnan(v) else float(v) for v in self.iou],
            "pixel_accuracy": self.pixel_accuracy,
            "images": self.images,
            **({"skipped": list(self.skipped)} if self.skipped else {}),
        }

    def table(self, names: list[str]) -> str:
        """Return one line a class: name, IoU, accuracy, share of the labelled pixels."""
        width = max(len(name) for name in [*names, "class"])
        lines = [f"{'class':<{width}}     IoU  accuracy  pixels"]  # each value ends where its heading does
        truth = self.confusion.sum(1)
        for name, iou, accuracy, pixels in zip(names, self.iou, self.class_accuracy, truth, strict=True):
            share = pixels / max(1, truth.sum())
            found = "     -" if np.isnan(accuracy) else _percent(accuracy)
            lines.append(f"{name:<{width}}  {_percent(iou)}    {found}  {share:6.1%}")
        mean = "     -" if np.isnan(self.miou) else _percent(self.miou)
        lines.append(f"{'mean':<{width}}  {mean}    pixel accuracy {self.pixel_accuracy:.1%}")
        if np.isnan(self.miou):
            lines.append(f"(no mIoU: {no_miou(self.true_classes)})")
        else:
            present = int((~np.isnan(self.iou)).sum())
            lines.append(f"(mean over the {present} classes that occur in truth or prediction)")
        if self.skipped:
            lines.append(f"(over {self.images} images; {len(self.skipped)} could not be used)")
        return "\n".join(lines)


def no_miou(true_classes: int) -> str:
    """Say why there is no mIoU where the truth holds that many classes, 0 or 1."""
    return f"the truth holds {'one class only' if true_classes else 'no labelled pixel'}"


def _percent(value: float) -> str:
    return "absent" if np.isnan(value) else f"{value:6.1%}"
