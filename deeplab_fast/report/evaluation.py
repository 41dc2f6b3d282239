"""An evaluation as a page shows it: headline figures, protocol, classes, confusion, images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..evaluation.metrics import Scores, or_none
from ..evaluation.table import no_miou
from .gallery import Gallery
from .per_class import ClassRow, HeatMap, class_rows, heat_map
from .pictures import css_colours


@dataclass(frozen=True)
class Evaluation:
    """An evaluation in a page's words; ``colours`` are CSS colours of the classes."""

    miou: float | None
    no_miou: str
    interval: tuple[float, float] | None
    pixel_accuracy: float
    mean_accuracy: float | None
    present: int
    images: int
    skipped: tuple[str, ...]
    protocol: tuple[tuple[str, str], ...]
    rows: tuple[ClassRow, ...]
    heat_map: HeatMap
    colours: tuple[str, ...]
    gallery: Gallery | None


def evaluation_of(record: Mapping[str, Any], gallery: Gallery | None) -> Evaluation:
    """Return what a page says of a metrics file's ``record``.

    Raises:
        ValueError: it lacks the classes, their confusion matrix or the protocol, or they do not fit together.
    """
    names = [str(name) for name in record["classes"]]
    scores = Scores(_matrix(record["confusion_matrix"], len(names)), int(record["images"]))
    ignore_label = int(record["protocol"].get("ignore_label", 255))
    return Evaluation(
        None if np.isnan(scores.miou) else scores.miou,
        no_miou(scores.true_classes),
        _interval(record),
        scores.pixel_accuracy,
        or_none(scores.mean_accuracy),
        int((~np.isnan(scores.iou)).sum()),
        scores.images,
        tuple(str(reason) for reason in record.get("skipped", ())),
        protocol_words(record["protocol"], str(record.get("precision", ""))),
        tuple(class_rows(scores.confusion, names)),
        heat_map(scores.confusion, names),
        css_colours(len(names), ignore_label),
        gallery,
    )


def _interval(record: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the 95 % interval of the mIoU, None where none was measured."""
    found = record.get("miou_interval")
    return None if found is None else (float(found["low"]), float(found["high"]))


def _matrix(stored: Sequence[Sequence[int]], classes: int) -> NDArray[np.int64]:
    matrix = np.array(stored)
    if matrix.shape != (classes, classes) or matrix.dtype.kind not in "iu" or (matrix < 0).any():
        raise ValueError(
            f"the confusion matrix has the shape {list(matrix.shape)}; expected counts of {classes} classes"
        )
    return matrix.astype(np.int64)


def protocol_words(protocol: Mapping[str, Any], precision: str) -> tuple[tuple[str, str], ...]:
    """Return name and value of each thing that decided how the figures were measured."""
    found = {name: value for name, value in protocol.items() if not isinstance(value, Mapping)}
    for name, value in protocol.items():
        if isinstance(value, Mapping):
            found |= {f"{name} {inner}": more for inner, more in value.items()}
    words = {name.replace("_", " "): _word(value) for name, value in found.items()}
    return tuple((words | ({"precision": precision} if precision else {})).items())


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_word(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
