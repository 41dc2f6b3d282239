"""The figures of an evaluation as text."""

import numpy as np

from .metrics import Scores

_COLUMNS = ("IoU", "precision", "recall", "Dice")


def table_of(scores: Scores, names: list[str]) -> str:
    """Return one line a class: name, IoU, precision, recall, Dice, share of the labelled pixels; then the means."""
    width = max(len(name) for name in [*names, "class"])
    headings = [*_COLUMNS, *(["boundary"] if scores.boundary is not None else [])]
    lines = [f"{'class':<{width}}  {'  '.join(f'{word:>9}' for word in headings)}  pixels"]
    columns = [scores.iou, scores.precision, scores.recall, scores.dice]
    columns += [] if scores.boundary_iou is None else [scores.boundary_iou]
    absent = np.isnan(scores.iou)
    for i, name in enumerate(names):
        cells = ["absent" if absent[i] and not column else _percent(float(v[i])) for column, v in enumerate(columns)]
        share = scores.truth[i] / max(1, scores.truth.sum())
        lines.append(f"{name:<{width}}  {'  '.join(f'{cell:>9}' for cell in cells)}  {share:6.1%}")
    return "\n".join([*lines, *_means(scores)])


def _means(scores: Scores) -> list[str]:
    lines = [
        f"pixel accuracy {scores.pixel_accuracy:.1%}, mean accuracy {_percent(scores.mean_accuracy)},"
        f" frequency-weighted IoU {_percent(scores.frequency_weighted_iou)}"
    ]
    if np.isnan(scores.miou):
        lines.append(f"(no mIoU: {no_miou(scores.true_classes)})")
    else:
        present = int((~np.isnan(scores.iou)).sum())
        over = f"over the {present} classes that occur in truth or prediction"
        lines += [f"mIoU {scores.miou:.4f}{_interval(scores)}, {over}"]
    if scores.boundary_iou is not None and not np.isnan(scores.boundary_iou).all():
        lines.append(f"mean boundary IoU {np.nanmean(scores.boundary_iou):.4f}")
    if scores.skipped:
        lines.append(f"(over {scores.images} images; {len(scores.skipped)} could not be used)")
    return lines


def _interval(scores: Scores) -> str:
    found = scores.interval
    return "" if found is None else f" ({found.level:.0%} {found.low:.4f}-{found.high:.4f})".replace("%", " %")


def no_miou(true_classes: int) -> str:
    """Say why there is no mIoU where the truth holds that many classes, 0 or 1."""
    return f"the truth holds {'one class only' if true_classes else 'no labelled pixel'}"


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.1%}"
