"""A training run as its folder tells of it, read for a page."""

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..storage.files import read_json, reason, write_json
from ..storage.log import METRICS, TIMING, read_json_lines
from ..storage.run_folder import CONFIG, EVALUATION, REPORT
from .chart import Point


@dataclass(frozen=True)
class RunRecord:
    """A run: its flags, the lines of its logs, and the last evaluation with its confusion matrix, if there was one."""

    folder: Path
    config: Mapping[str, Any]
    steps: Sequence[Mapping[str, Any]]
    evaluations: Sequence[Mapping[str, Any]]
    timing: Sequence[Mapping[str, Any]]
    kept: Mapping[str, Any] | None

    def values(self, name: str) -> list[Point]:
        """Return (step, value) of what each step, evaluation or block of steps says under ``name``."""
        lines = self.steps if name in ("loss", "lr") else self.timing if name in _TIMED else self.evaluations
        return [(line["step"], line[name]) for line in lines if _is_number(line.get(name))]

    @property
    def last_step(self) -> int:
        return max((line["step"] for line in (*self.steps, *self.evaluations)), default=0)

    @property
    def last(self) -> Mapping[str, Any] | None:
        """The last evaluation, None where there is none."""
        return self.evaluations[-1] if self.evaluations else None

    @property
    def best(self) -> Mapping[str, Any] | None:
        """The evaluation of the highest mIoU, the first of equals."""
        return max((e for e in self.evaluations if _is_number(e.get("miou"))), key=lambda e: e["miou"], default=None)

    @property
    def seconds(self) -> float | None:
        """Time of all steps, without evaluations and saving; None where it was not logged."""
        times = self.values("step_ms")
        before = [0.0, *(step for step, _ in times[:-1])]
        return sum(ms * (step - b) for (step, ms), b in zip(times, before, strict=True)) / 1e3 if times else None

    @property
    def images_per_s(self) -> float | None:
        """Median over the blocks of steps."""
        rates = [value for _, value in self.values("images_per_s")]
        return statistics.median(rates) if rates else None


_TIMED = {"step_ms", "data_ms", "data_share", "images_per_s", "max_memory_mb"}


def _is_number(value: Any) -> bool:
    """Tell whether a value is a number that a float can hold: JSON knows NaN, and integers of any length."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def read_run(folder: Path) -> RunRecord:
    """Read the folder of a training run.

    Raises:
        UserError: it is none, or a file in it cannot be read.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: {'is a file' if folder.exists() else 'no such folder'}; expected a run's --train_dir"
        )
    for name in (CONFIG, METRICS):
        if not (folder / name).is_file():
            raise UserError(f"{folder}: holds no {name}; expected the --train_dir of a run that has begun")
    lines = _lines(folder / METRICS)
    kept = folder / REPORT / EVALUATION
    return RunRecord(
        folder,
        _object(folder / CONFIG),
        [line for line in lines if "loss" in line],
        [line for line in lines if "miou" in line],
        _lines(folder / TIMING) if (folder / TIMING).exists() else [],
        _object(kept) if kept.exists() else None,
    )


def keep_evaluation(folder: Path, content: Mapping[str, Any]) -> None:
    """Write ``evaluation.json`` into the report of the run in ``folder``, which must have one.

    Raises:
        UserError: it cannot be written.
    """
    write_json(folder / REPORT / EVALUATION, content, indent=None)


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        return read_json_lines(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({reason(error)})") from None


def _object(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({reason(error)})") from None
    except ValueError:
        raise UserError(f"{path}: damaged; expected JSON, as a run writes it") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no JSON object; expected what a run writes")
    return content
