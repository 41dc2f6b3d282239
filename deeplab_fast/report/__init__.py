"""Pictures of a run: curves of loss and mIoU, and a sheet of images, truths and predictions."""

import logging
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..data.pairs import Image as Pixels
from ..data.pairs import read_pair
from ..data.sources import Source
from ..errors import UserError
from ..evaluation.palette import palette
from ..evaluation.protocol import Protocol, segment_images
from ..ops import Decoding
from ..storage.files import make_folder, replace_file
from ..storage.log import METRICS, read_json_lines
from ..storage.run_folder import CURVES, PREDICTIONS, REPORT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger("deeplab_fast")


def write_report(
    folder: Path,
    model: torch.nn.Module,
    source: Source | None,
    protocol: Protocol,
    device: torch.device,
    names: Sequence[str],
    ignore_label: int,
    fused: str = "auto",
    weights: str = "",
) -> Path:
    """Draw the curves and, where there are held-out samples, the sheet of predictions; returns their folder.

    ``weights``: the words that name the weights of ``model`` on the sheet, such as "last weights, step 300".

    Raises:
        UserError: a picture cannot be written.
    """
    report = folder / REPORT
    make_folder(report, str(report))
    draw_curves(folder / METRICS, report / CURVES)
    if source is not None:
        sheet = report / PREDICTIONS
        draw_predictions(sheet, model, source, protocol, device, names, ignore_label, fused, weights)
    return report


def draw_curves(metrics: Path, path: Path) -> None:
    """Draw loss (each step and its running mean) and mIoU over the steps of a ``metrics.jsonl``."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    records = read_json_lines(metrics)
    losses = np.array([(r["step"], r["loss"], r["lr"]) for r in records if "loss" in r])
    scores = np.array([(r["step"], r["miou"], r["pixel_accuracy"]) for r in records if r.get("miou") is not None])
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.2), layout="constrained")
    left, right = axes
    if len(losses):
        window = max(1, len(losses) // 50)
        kernel = np.ones(window) / window
        left.plot(losses[:, 0], losses[:, 1], color="tab:blue", alpha=0.25, linewidth=0.8, label="each step")
        smooth = np.convolve(losses[:, 1], kernel, mode="valid")
        left.plot(losses[window - 1 :, 0], smooth, color="tab:blue", label=f"mean of {window} steps")
        rate = left.twinx()
        rate.plot(losses[:, 0], losses[:, 2], color="tab:gray", linestyle=":", linewidth=1)
        rate.set_ylabel("learning rate (dotted)", color="tab:gray")
        left.set(xlabel="step", ylabel="cross-entropy", title="Training loss", ylim=(0, None))
        left.legend()
    if len(scores):
        best = scores[scores[:, 1].argmax()]
        words = f"mIoU: best {best[1]:.3f} at step {best[0]:.0f}, last {scores[-1, 1]:.3f} at step {scores[-1, 0]:.0f}"
        right.plot(scores[:, 0], scores[:, 1], marker="o", markersize=3, label=words)
        right.plot(scores[:, 0], scores[:, 2], marker="o", markersize=3, label="pixel accuracy")
        right.set(xlabel="step", ylim=(0, 1), title="Held-out images")
        right.legend(loc="lower right")
        right.grid(alpha=0.3)
    else:
        right.set_axis_off()
        right.set_title("No evaluation")
    _save(figure, path, dpi=110)


def draw_predictions(
    path: Path,
    model: torch.nn.Module,
    source: Source,
    protocol: Protocol,
    device: torch.device,
    names: Sequence[str],
    ignore_label: int,
    fused: str = "auto",
    weights: str = "",
    count: int = 8,
) -> None:
    """Draw a sheet of ``count`` held-out samples: image, truth, prediction, with the classes' colours.

    A sample that cannot be used is named in its place.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.patches import Patch

    indexes = np.linspace(0, len(source) - 1, min(count, len(source))).astype(int)
    samples = [_decode(source, int(i), len(names), ignore_label, protocol.decoding) for i in indexes]
    was_training = model.training
    model.eval()
    colours = palette()
    colours[ignore_label] = 255
    half = (len(samples) + 1) // 2
    figure, axes = plt.subplots(half, 6, figsize=(13, 2.3 * half + 0.7), squeeze=False, layout="constrained")
    shown: set[int] = set()
    for axis in axes.flat:
        axis.set_axis_off()
    for i, sample in enumerate(samples):
        row, column = i % half, 3 * (i // half)
        panels = axes[row, column : column + 3]
        if row == 0:
            for axis, title in zip(panels, ("image", "truth", "prediction"), strict=True):
                axis.set_title(title)
        if isinstance(sample, UserError):
            logger.warning("%s: not on the sheet: %s", path, sample)
            words = textwrap.fill(f"not shown: {sample}", 45)
            panels[0].text(0, 0.5, words, va="center", fontsize=8).set_in_layout(False)
            continue
        image, label = sample
        prediction = segment_images(model, [image], protocol, device, fused)[0]
        shown |= set(np.unique(label)) | set(np.unique(prediction))
        for axis, picture in zip(panels, (image, colours[label], colours[prediction]), strict=True):
            axis.imshow(picture)
    model.train(was_training)
    patches = [
        Patch(facecolor=colours[c] / 255, edgecolor="gray", label="ignored" if c == ignore_label else names[c])
        for c in sorted(int(v) for v in shown)
    ]
    figure.suptitle(f"{len(samples)} of {len(source)} held-out images{f': {weights}' if weights else ''}")
    figure.legend(handles=patches, loc="outside lower center", ncols=min(8, max(1, len(patches))), frameon=False)
    _save(figure, path, dpi=100)


def _decode(
    source: Source, index: int, classes: int, ignore_label: int, decoding: Decoding
) -> tuple[Pixels, Pixels] | UserError:
    """Return image and label of a sample, or why it cannot be used."""
    try:
        return read_pair(source, index, classes, ignore_label, decoding)
    except UserError as error:
        return error


def _save(figure: "Figure", path: Path, dpi: int) -> None:
    from matplotlib import pyplot as plt

    try:
        with replace_file(path) as partial:
            figure.savefig(partial, dpi=dpi)
    finally:
        plt.close(figure)
