"""Compare how runs learn: the mean difference of their smoothed losses, their last mIoU, and a picture of both.

``python -m benchmarks.run curves RUN REFERENCE [PICTURE.png]`` takes two run folders of the same seed and steps, or on
either side those of several seeds with commas between (``fp32-1,fp32-2``), whose means are compared; status 1 where the
smoothed curves differ by more than 2 % on average.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from deeplab_fast.errors import UserError
from deeplab_fast.storage.log import METRICS, read_json_lines

LIMIT, WINDOW = 0.02, 20


@dataclass(frozen=True)
class Runs:
    """Runs of several seeds: ``losses`` ``[seed, step]``; ``mious`` ``[seed, evaluation]`` after the steps ``at``."""

    name: str
    losses: NDArray[np.float64]
    mious: NDArray[np.float64]
    at: list[int]

    def last_miou(self) -> str:
        """Say the mIoU of the last evaluation: its mean over the seeds and, of several, the range."""
        if not self.at:
            return f"{self.name}: no mIoU"
        last = self.mious[:, -1]
        spread = f" ({last.min():.4f} to {last.max():.4f})" if len(last) > 1 else ""
        return f"{self.name}: mIoU {last.mean():.4f}{spread}"


def read_runs(folders: Sequence[Path]) -> Runs:
    """Read the runs of several seeds.

    Raises:
        UserError: a folder is no run's, or they differ in their steps.
    """
    losses, mious = [], []
    for folder in folders:
        if not (folder / METRICS).is_file():
            raise UserError(f"{folder}: no {METRICS} there; expected a run's folder")
        records = read_json_lines(folder / METRICS)
        losses.append([r["loss"] for r in records if "loss" in r])
        mious.append({r["step"]: r["miou"] for r in records if r.get("miou") is not None})
    if any(len(one) != len(losses[0]) for one in losses) or any(one.keys() != mious[0].keys() for one in mious):
        raise UserError(f"{', '.join(map(str, folders))}: expected as many steps and evaluations in each")
    figures = np.array([list(one.values()) for one in mious])
    name = re.sub(r"-\d+$", "", folders[0].name) if len(folders) > 1 else folders[0].name
    return Runs(name, np.array(losses), figures, list(mious[0]))


def smoothed(values: NDArray[np.float64], window: int = WINDOW) -> NDArray[np.float64]:
    """Moving averages over whole windows: ``[n]`` -> ``[n - window + 1]``."""
    return np.convolve(values, np.full(window, 1 / window), mode="valid")


def difference(ours: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Mean absolute difference of the smoothed curves, relative to the mean of the reference's."""
    if len(ours) != len(reference) or len(ours) < WINDOW:
        raise UserError(f"{len(ours)} and {len(reference)} steps; expected as many of both, {WINDOW} at least")
    a, b = smoothed(ours), smoothed(reference)
    return float(np.abs(a - b).mean() / b.mean())


def draw(path: Path, both: Sequence[Runs], title: str) -> None:
    """Draw the smoothed losses and, where there are evaluations, the mIoU: means over the seeds, ranges as bands."""
    with_miou = all(runs.at for runs in both)
    figure, panels = plt.subplots(
        1, 1 + with_miou, figsize=(8 + 4 * with_miou, 4.5), layout="constrained", squeeze=False
    )
    for runs, style in zip(both, ("-", "--"), strict=True):
        each = np.array([smoothed(values) for values in runs.losses])
        _draw_mean_and_range(panels[0, 0], np.arange(WINDOW, runs.losses.shape[1] + 1), each, style, runs.name)
        if with_miou:
            _draw_mean_and_range(panels[0, 1], np.array(runs.at), runs.mious, f"o{style}", runs.last_miou())
    for axes, name in zip(panels[0], (f"loss, mean of {WINDOW} steps", "held-out mIoU"), strict=False):
        axes.set(xlabel="step", ylabel=name)
        axes.legend()
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_mean_and_range(axes: Axes, at: NDArray[np.int64], values: NDArray[np.float64], style: str, name: str) -> None:
    (line,) = axes.plot(at, values.mean(0), style, label=name, markersize=3)
    if len(values) > 1:
        axes.fill_between(at, values.min(0), values.max(0), color=line.get_color(), alpha=0.2, linewidth=0)


def main(argv: list[str]) -> int:
    if argv and argv[0] in ("-h", "--help"):
        print(__doc__.strip())
        return 0
    if len(argv) not in (2, 3):
        raise UserError("expected RUN REFERENCE [PICTURE.png], or several runs on either side with commas between")
    ours, reference = (read_runs([Path(name) for name in names.split(",")]) for names in argv[:2])
    if len(ours.losses) != len(reference.losses):
        raise UserError(f"{len(ours.losses)} and {len(reference.losses)} runs; expected the same seeds on either side")
    found = difference(ours.losses.mean(0), reference.losses.mean(0))
    count, steps = reference.losses.shape
    of_seeds = f", the means of {count} seeds," if count > 1 else ""
    verdict = f"smoothed losses{of_seeds} differ by {found:.2%} on average over {steps} steps (at most {LIMIT:.0%})"
    print("\n".join([verdict, ours.last_miou(), reference.last_miou()]))
    if len(argv) == 3:
        draw(Path(argv[2]), (ours, reference), verdict)
    return int(found > LIMIT)


if __name__ == "__main__":
    from deeplab_fast.cli import run

    run(main)
