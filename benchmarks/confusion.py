"""Confusion matrix of label maps on one core: ours beside numpy.bincount and torchmetrics.

``python -m benchmarks.run confusion --label_dir=VOC2012/SegmentationClass`` prints a table; the predictions
are the labels, moved by a few pixels and with holes of another class. Counts are compared before timing.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from deeplab_fast.cli import run
from deeplab_fast.config.flags import flag
from deeplab_fast.data.synthetic import builtin_data
from deeplab_fast.errors import UserError
from deeplab_fast.ops import confusion_matrix
from deeplab_fast.runtime.environment import environment

from .agreement import Check, require, same
from .peers import import_torchvision
from .pipeline import held_to
from .report import as_table, as_text, beside, configure, publish, spread, times
from .timing import Timing, interleave

CLASSES, IGNORE = 21, 255
OURS = "ours"
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class ConfusionConfig:
    """Confusion matrix"""

    label_dir: str = flag("", "Folder of label PNG; default the built-in data set's.")
    images: int = flag(100, "Label maps.", minimum=1)
    rounds: int = flag(11, "Timed passes over the label maps.", minimum=4)
    out: str = flag("", "Folder for confusion.json and confusion.md.")


def label_maps(folder: Path, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Labels and predictions, uint8 ``[H, W]``."""
    files = sorted(folder.glob("*.png"))[:count]
    if not files:
        raise UserError(f"--label_dir={folder}: no PNG file")
    random = np.random.default_rng(0)
    pairs = []
    for path in files:
        label = np.array(Image.open(path))
        prediction = np.roll(np.where(label == IGNORE, 0, label), (3, 5), (0, 1))
        y, x = random.integers(0, label.shape[0] - 20), random.integers(0, label.shape[1] - 20)
        prediction[y : y + 20, x : x + 20] = random.integers(0, CLASSES)
        pairs.append((torch.from_numpy(label), torch.from_numpy(prediction)))
    return pairs


def by_bincount(label: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
    """The field's usual ``fast_hist``."""
    truth, guess = label.numpy(), prediction.numpy()
    keep = truth != IGNORE
    pairs = CLASSES * truth[keep].astype(np.int64) + guess[keep]
    return torch.from_numpy(np.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES))


def by_torchmetrics(label: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
    import_torchvision()  # torchmetrics imports it
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    return multiclass_confusion_matrix(
        prediction, label, CLASSES, ignore_index=IGNORE, validate_args=False
    )  # its own checks switched off, in its favour


def by_us(label: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
    return confusion_matrix(label, prediction, CLASSES, IGNORE)


COUNTERS = {OURS: by_us, "numpy.bincount": by_bincount, "torchmetrics": by_torchmetrics}


def count_checks(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> list[Check]:
    """Compare each peer's matrices of all label maps with ours, cell by cell.

    Raises:
        UserError: a cell differs.
    """
    checks = []
    for name in COUNTERS.keys() - {OURS}:
        cells = [(COUNTERS[name](*pair).long(), by_us(*pair)) for pair in pairs]
        check = same(f"{pairs[0][0].dtype} counts by {name}", cells)
        checks.append(require(check, f"{name}: {check.found} cells differ from ours"))
    return checks


def measure(
    pairs: list[tuple[torch.Tensor, torch.Tensor]], rounds: int
) -> tuple[dict[str, dict[str, Timing]], list[Check]]:
    """Measure seconds a label map, of uint8 maps and of the int64 ones that argmax gives; what was checked before."""
    found, checks = {}, []
    with held_to(1):
        for dtype in (torch.uint8, torch.int64):
            typed = [(label.to(dtype), prediction.to(dtype)) for label, prediction in pairs]
            checks += count_checks(typed)

            def once(count: Any, typed: list[tuple[torch.Tensor, torch.Tensor]] = typed) -> None:
                for label, prediction in typed:
                    count(label, prediction)

            runs = {name: lambda count=count, once=once: once(count) for name, count in COUNTERS.items()}
            timings = interleave(runs, rounds, 2, CPU)
            name = str(dtype).removeprefix("torch.")
            found[name] = {n: t.per(len(pairs)) for n, t in timings.items()}
    return found, checks


def as_markdown(results: dict[str, Any]) -> str:
    where = results["environment"]
    title = (
        f"Confusion matrix of {results['maps']} label maps, {CLASSES} classes, one core of {where['device']},"
        f" {where['date']}. numpy {where['numpy']}, torchmetrics {where['torchmetrics']}."
    )
    rows = [
        (dtype, name, times(t, 4), spread(results["ratios"][dtype].get(name), 1))
        for dtype, timings in results["timings"].items()
        for name, t in timings.items()
    ]
    header = "labels and predictions | counted by | median, ms a map | quartiles | ours is faster by"
    return as_text(title, as_table(header, rows))


def main(argv: list[str]) -> int:
    config = configure(ConfusionConfig, argv, "confusion")
    pairs = label_maps(Path(config.label_dir) if config.label_dir else builtin_data("") / "labels", config.images)
    timings, checks = measure(pairs, config.rounds)
    by_dtype = {dtype: beside(found, OURS) for dtype, found in timings.items()}
    results = {
        "maps": len(pairs),
        "checks": [one.as_dict() for one in checks],
        **{key: {dtype: found[key] for dtype, found in by_dtype.items()} for key in ("timings", "ratios")},
    }
    return publish("confusion", config, environment(CPU, "torchmetrics"), results, as_markdown)


def test_confusion(tmp_path: Any) -> None:
    """A small run: equal counts, and ours ahead."""
    timings, _ = measure(label_maps(builtin_data(tmp_path, train=16, val=1) / "labels", 16), 5)
    for dtype, found in timings.items():
        for name in COUNTERS.keys() - {OURS}:
            faster = found[name].over(found[OURS]).median
            print(f"{dtype}, {name}: {faster:.1f}")
            assert faster > 2


if __name__ == "__main__":
    run(main)
