"""Whether two runs learn alike: the mean difference of their smoothed losses, and a picture of both.

``python -m benchmarks.curves RUN REFERENCE [PICTURE.png]`` takes two run folders of the same seed and steps; status 1
where the smoothed curves differ by more than 2 % on average.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from deeplab_fast.errors import UserError
from deeplab_fast.log import METRICS, read_json_lines

LIMIT, WINDOW = 0.02, 20


def losses(run: Path) -> NDArray[np.float64]:
    if not (run / METRICS).is_file():
        raise UserError(f"{run}: no {METRICS} there; expected a run's folder")
    return np.array([record["loss"] for record in read_json_lines(run / METRICS) if "loss" in record])


def smoothed(values: NDArray[np.float64], window: int = WINDOW) -> NDArray[np.float64]:
    """Moving averages over whole windows: ``[n]`` -> ``[n - window + 1]``."""
    return np.convolve(values, np.full(window, 1 / window), mode="valid")


def difference(ours: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Mean absolute difference of the smoothed curves, relative to the mean of the reference's."""
    if len(ours) != len(reference) or len(ours) < WINDOW:
        raise UserError(f"{len(ours)} and {len(reference)} steps; expected as many of both, {WINDOW} at least")
    a, b = smoothed(ours), smoothed(reference)
    return float(np.abs(a - b).mean() / b.mean())


def draw(path: Path, curves: dict[str, NDArray[np.float64]], title: str) -> None:
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for (name, values), style in zip(curves.items(), ("-", "--"), strict=True):
        axes.plot(np.arange(WINDOW, len(values) + 1), smoothed(values), style, label=name)
    axes.set_xlabel("step")
    axes.set_ylabel(f"loss, mean of {WINDOW} steps")
    axes.set_title(title, fontsize=10)
    axes.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(argv: list[str]) -> int:
    if len(argv) not in (2, 3):
        raise UserError("expected RUN REFERENCE [PICTURE.png]")
    runs = [Path(name) for name in argv[:2]]
    ours, reference = (losses(run) for run in runs)
    found = difference(ours, reference)
    verdict = f"smoothed losses differ by {found:.2%} on average over {len(ours)} steps (at most {LIMIT:.0%})"
    print(verdict)
    if len(argv) == 3:
        draw(Path(argv[2]), {run.name: values for run, values in zip(runs, (ours, reference), strict=True)}, verdict)
    return int(found > LIMIT)


if __name__ == "__main__":
    from deeplab_fast.cli import run

    run(main)
