"""Several training runs beside each other: their figures, flags that differ, the IoU of their classes."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.classes import generic_names
from .curves import compared_charts
from .page import render, write_page
from .runs import RunRecord

# Flags that say where things are or how fast, and decide no figure.
_PLACES = {"train_dir", "cache_dir", "resume"}


@dataclass(frozen=True)
class ClassOfRuns:
    """IoU of a class in the best evaluation of each run; None where it has none."""

    name: str
    values: tuple[float | None, ...]

    @property
    def best(self) -> float | None:
        return max((v for v in self.values if v is not None), default=None)

    @property
    def spread(self) -> float | None:
        """Difference of the highest and the lowest; None where fewer than two runs have the class."""
        known = [v for v in self.values if v is not None]
        return max(known) - min(known) if len(known) > 1 else None


def run_names(folders: Sequence[Path]) -> list[str]:
    """Return short names that tell folders apart: as many of the last parts of their paths as that takes."""
    paths = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, paths)) + 1):
        names = [os.sep.join(parts[-length:]) for parts in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{os.sep.join(parts)} ({i + 1})" for i, parts in enumerate(paths)]


def differing_flags(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the flags that are not the same in all configurations, with the value of each: None where it has none."""
    names = sorted({name for config in configs for name in config} - _PLACES)
    values = {name: [config.get(name) for config in configs] for name in names}
    return {name: of_runs for name, of_runs in values.items() if any(v != of_runs[0] for v in of_runs)}


def classes_of_runs(runs: Sequence[RunRecord]) -> list[ClassOfRuns]:
    """Return the IoU of every class by name, in the order in which the runs name them."""
    found = [_iou_by_name(run) for run in runs]
    names = dict.fromkeys(name for one in found for name in one)
    return [ClassOfRuns(name, tuple(one.get(name) for one in found)) for name in names]


def _iou_by_name(run: RunRecord) -> dict[str, float | None]:
    values = run.best.get("per_class_iou") if run.best else None
    if not isinstance(values, list):
        return {}
    kept = (run.kept or {}).get("classes")
    is_named = isinstance(kept, list) and len(kept) == len(values)
    names = [str(name) for name in kept] if is_named and kept else generic_names(len(values))
    return {
        name if names.count(name) == 1 else f"{name} ({i})": value if isinstance(value, int | float) else None
        for i, (name, value) in enumerate(zip(names, values, strict=True))
    }


def write_comparison(runs: Sequence[RunRecord], path: Path) -> None:
    """Write the page that compares ``runs``.

    Raises:
        UserError: it cannot be written.
    """
    names = run_names([run.folder for run in runs])
    page = render(
        "comparison.html",
        subject="comparison",
        names=names,
        runs=runs,
        highest=max((run.best["miou"] for run in runs if run.best), default=None),
        charts=compared_charts(runs, names),
        differing=differing_flags([run.config for run in runs]),
        classes=classes_of_runs(runs),
    )
    write_page(path, page)
