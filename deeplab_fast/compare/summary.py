"""The figures of a comparison: mean and spread over seeds, and what they say of each other."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .config import OURS, REFERENCE

FIGURES = ("seconds", "images_per_s", "cpu_seconds", "peak_memory_mb", "miou", "pixel_accuracy", "steps", "images_seen")


@dataclass(frozen=True)
class Spread:
    """The mean over seeds, and the sample standard deviation: None of a single value."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


@dataclass(frozen=True)
class Summary:
    """Figures of both by name (of the mIoU none where it is not defined), and ratios of their means, ours over theirs.

    ``miou_difference``: ours less theirs, of the means. ``miou_spread``: its standard deviation by those of the seeds,
    None where there is one seed.
    """

    ours: dict[str, Spread]
    reference: dict[str, Spread]
    ratios: dict[str, float]
    miou_difference: float | None
    miou_spread: float | None

    @property
    def verdict(self) -> str:
        """One sentence on the mIoU."""
        if self.miou_difference is None:
            return "There is no mIoU: the held-out truth holds one class at most."
        points = 100 * self.miou_difference
        if self.miou_spread is None:
            return f"mIoU: ours {points:+.2f} points; of one seed, which says little: give --seeds=3 or more."
        spread = 100 * self.miou_spread
        where = "within" if abs(points) <= 2 * spread else "beyond"
        return (
            f"mIoU: ours {points:+.2f} points, {where} two standard deviations ({2 * spread:.2f}) of that difference."
        )


def summarise(runs: Sequence[dict[str, Any]]) -> Summary:
    """Return the figures of all runs, of which there is at least one of each implementation."""
    sides = []
    for name in (OURS, REFERENCE):
        own = [run for run in runs if run["implementation"] == name]
        values = {figure: [run[figure] for run in own] for figure in FIGURES}
        sides.append({figure: Spread.of(v) for figure, v in values.items() if None not in v})
    ours, reference = sides
    ratios = {f: ours[f].mean / reference[f].mean for f in ours if f in reference and reference[f].mean}
    difference = spread = None
    if "miou" in ours and "miou" in reference:
        difference = ours["miou"].mean - reference["miou"].mean
        count = len({run["seed"] for run in runs})
        parts = (ours["miou"].deviation, reference["miou"].deviation)
        if count > 1 and None not in parts:
            spread = math.sqrt(sum(d**2 for d in parts if d is not None) / count)
    return Summary(ours, reference, ratios, difference, spread)
