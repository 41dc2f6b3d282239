"""Pictures of a run: curves of loss and mIoU, and a sheet of images, truths and predictions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from .data.pairs import decode_pair
from .data.sources import Source
from .evaluator import Protocol, View, predictions, view_of
from .log import METRICS, read_json_lines

CURVES, PREDICTIONS = "curves.png", "predictions.png"


def palette(n: int = 256) -> NDArray[np.uint8]:
    """VOC's colours: uint8 ``[n, 3]``; the bits of a class index spread over the channels' high bits."""
    colours = np.zeros((n, 3), np.uint8)
    for i in range(n):
        for bit in range(8):
            for channel in range(3):
                colours[i, channel] |= ((i >> (3 * bit + channel)) & 1) << (7 - bit)
    return colours


def predict(
    model: torch.nn.Module,
    images: Sequence[np.ndarray],
    protocol: Protocol,
    device: torch.device,
    fused: str = "auto",
) -> list[NDArray[np.uint8]]:
    """Classes of uint8 ``[H, W, 3]`` images at their own sizes, by the evaluation's protocol."""
    views = []
    for size in protocol.sizes:
        squares, extents = zip(*(view_of(image, size) for image in images), strict=True)
        views.append(View(torch.from_numpy(np.stack(squares)), torch.from_numpy(np.stack(extents))))
    targets = [(image.shape[0], image.shape[1]) for image in images]
    return [classes.cpu().numpy() for classes in predictions(model, views, targets, protocol, device, fused)]


def write_report(
    folder: Path,
    model: torch.nn.Module,
    source: Source | None,
    protocol: Protocol,
    device: torch.device,
    names: Sequence[str],
    ignore_label: int,
) -> Path:
    """Draw the curves and, where there are held-out samples, the sheet of predictions; returns their folder."""
    report = folder / "report"
    report.mkdir(exist_ok=True)
    draw_curves(folder / METRICS, report / CURVES)
    if source is not None:
        draw_predictions(report / PREDICTIONS, model, source, protocol, device, names, ignore_label)
    return report


def draw_curves(metrics: Path, path: Path) -> None:
    """Loss (each step and its running mean) and mIoU over the steps of a ``metrics.jsonl``."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    records = read_json_lines(metrics)
    losses = np.array([(r["step"], r["loss"], r["lr"]) for r in records if "loss" in r])
    scores = np.array([(r["step"], r["miou"], r["pixel_accuracy"]) for r in records if "miou" in r])
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
        right.plot(scores[:, 0], scores[:, 1], marker="o", markersize=3, label=f"mIoU, best {scores[:, 1].max():.3f}")
        right.plot(scores[:, 0], scores[:, 2], marker="o", markersize=3, label="pixel accuracy")
        right.set(xlabel="step", ylim=(0, 1), title="Held-out images")
        right.legend(loc="lower right")
        right.grid(alpha=0.3)
    else:
        right.set_axis_off()
        right.set_title("No evaluation")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_predictions(
    path: Path,
    model: torch.nn.Module,
    source: Source,
    protocol: Protocol,
    device: torch.device,
    names: Sequence[str],
    ignore_label: int,
    count: int = 8,
) -> None:
    """A sheet of ``count`` held-out samples: image, truth, prediction, with the classes' colours."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.patches import Patch

    indexes = np.linspace(0, len(source) - 1, min(count, len(source))).astype(int)
    pairs = [decode_pair(source.read(int(i))) for i in indexes]
    was_training = model.training
    model.eval()
    masks = [predict(model, [image], protocol, device)[0] for image, _ in pairs]
    model.train(was_training)
    colours = palette()
    colours[ignore_label] = 255
    half = (len(pairs) + 1) // 2
    figure, axes = plt.subplots(half, 6, figsize=(13, 2.3 * half + 0.7), squeeze=False, layout="constrained")
    shown: set[int] = set()
    for axis in axes.flat:
        axis.set_axis_off()
    for i, ((image, label), prediction) in enumerate(zip(pairs, masks, strict=True)):
        row, column = i % half, 3 * (i // half)
        shown |= set(np.unique(label)) | set(np.unique(prediction))
        for axis, picture in zip(
            axes[row, column : column + 3], (image, colours[label], colours[prediction]), strict=True
        ):
            axis.imshow(picture)
        if row == 0:
            for axis, title in zip(axes[0, column : column + 3], ("image", "truth", "prediction"), strict=True):
                axis.set_title(title)
    patches = [
        Patch(facecolor=colours[c] / 255, edgecolor="gray", label="ignored" if c == ignore_label else names[c])
        for c in sorted(int(v) for v in shown)
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=min(8, len(patches)), frameon=False)
    figure.savefig(path, dpi=100)
    plt.close(figure)
