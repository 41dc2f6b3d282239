"""The log of a run: metrics.jsonl, timing.jsonl, trackers such as TensorBoard, a progress bar.

``metrics.jsonl`` holds what the seed decides (losses, learning rates, evaluations), one object a
line: a resumed run's is equal byte for byte to an uninterrupted one's. ``timing.jsonl`` holds what
the machine decides (times, rates, memory).
"""

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..errors import UserError
from .files import parse_json, reason, replace_file
from .trackers import Trackers

logger = logging.getLogger("deeplab_fast")

METRICS = "metrics.jsonl"
TIMING = "timing.jsonl"


class JsonLines:
    """A file of JSON objects with a ``step``, one a line, that can be cut back to where a checkpoint was taken.

    Args:
        start: steps that the checkpoint holds: lines of later ones go.
        keep: which of the other objects stay.

    A line cut short at the end, behind that of step ``start``, is what a killed run leaves, and goes too. Any other
    line that holds no object moves to ``NAME.damaged``, which is said.

    Raises:
        UserError: the file cannot be read or written.
    """

    def __init__(self, path: Path, start: int, keep: Callable[[dict[str, Any]], bool] = lambda record: True) -> None:
        self.path, self._failed = path, False
        with self._errors():
            if path.exists():
                self._cut(start, keep)
            self._file = path.open("a", encoding="utf-8")

    def _cut(self, start: int, keep: Callable[[dict[str, Any]], bool]) -> None:
        lines = _split(self.path.read_bytes())
        kept = [(line, record) for line, record in lines if record and record["step"] <= start and keep(record)]
        is_whole = start == 0 or any(record["step"] == start for _, record in kept)
        torn = [line for line, record in lines[: -1 if is_whole else None] if record is None]
        if torn:
            self._move_aside(torn)
        content = b"".join(line for line, _ in kept)
        if self.path.stat().st_size != len(content):
            with replace_file(self.path) as partial:
                partial.write_bytes(content)

    def _move_aside(self, torn: list[bytes]) -> None:
        damaged = self.path.with_name(f"{self.path.name}.damaged")
        with damaged.open("ab") as file:
            file.writelines(line.rstrip(b"\n") + b"\n" for line in torn)
        plural = "" if len(torn) == 1 else "s"
        logger.warning("%s: %d torn line%s moved to %s", self.path, len(torn), plural, damaged.name)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._failed = True
            raise UserError(f"{self.path}: cannot be written ({reason(error)})") from None

    def write(self, record: dict[str, Any]) -> None:
        """Add a line, which :meth:`flush` brings to the file."""
        with self._errors():
            self._file.write(json.dumps(record) + "\n")

    def flush(self) -> None:
        """Bring all lines to the file, where readers see them."""
        with self._errors():
            self._file.flush()

    def sync(self) -> None:
        """Bring all lines to the disk."""
        with self._errors():
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; an error that was raised already is not raised again."""
        try:
            self._file.close()
        except OSError as error:
            if not self._failed:
                raise UserError(f"{self.path}: cannot be written ({reason(error)})") from None


def _split(content: bytes) -> list[tuple[bytes, dict[str, Any] | None]]:
    """Split the lines, with their ends, and read the object that each holds: None where it is torn."""
    return [(line, _parsed(line)) for line in content.splitlines(keepends=True)]


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = parse_json(line)
    except ValueError:
        return None
    is_whole = line.endswith(b"\n") and isinstance(record, dict) and type(record.get("step")) is int
    return record if is_whole and 0 <= record["step"] < 1 << 63 else None


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read the objects of a file that :class:`JsonLines` wrote; torn lines are passed over."""
    return [record for _, record in _split(path.read_bytes()) if record is not None]


class RunLog:
    """The main process's log of a training run; other processes make none."""

    def __init__(
        self,
        folder: Path,
        total_steps: int,
        start: int,
        evaluated: int,
        trackers: Trackers,
        names: Sequence[str] = (),
    ) -> None:
        """Open the files where ``start`` steps are done, evaluations up to step ``evaluated``: what is beyond goes.

        ``names``: of the classes.
        """

        # An evaluation comes before the next step: only that of the last step may not have been saved.
        self.metrics = JsonLines(
            folder / METRICS, start, lambda r: "miou" not in r or r["step"] < start or r["step"] <= evaluated
        )
        self.timing = JsonLines(folder / TIMING, start)
        self.trackers, self.names = trackers, names
        self._start, self._total = start, total_steps
        self._tty = sys.stderr.isatty()
        self._began = self._last_line = time.monotonic()
        self.bar = tqdm(total=total_steps, initial=start, unit="step", disable=not self._tty, dynamic_ncols=True)

    def steps(self, records: Iterable[dict[str, Any]], timing: dict[str, Any]) -> None:
        """Log a block of steps whose losses arrived together, and what they took on average."""
        block = list(records)
        for record in block:
            self.metrics.write(record)
            self.trackers.scalars({"train/loss": record["loss"], "train/lr": record["lr"]}, record["step"])
            self.bar.update()
        if not block:
            return
        record = block[-1]
        self.timing.write({"step": record["step"], **timing})
        self.metrics.flush()
        self.timing.flush()
        speed = {f"speed/{name}": timing[name] for name in ("images_per_s", "data_share", "max_memory_mb")}
        self.trackers.scalars(speed, record["step"])
        shown = {
            "loss": f"{record['loss']:.4f}",
            "lr": f"{record['lr']:.2e}",
            "img/s": f"{timing['images_per_s']:.1f}",
            "data": f"{timing['data_share']:.0%}",
            "memory": f"{timing['max_memory_mb'] / 1024:.1f}G",
        }
        self.bar.set_postfix(shown)
        at_an_end = any(r["step"] in (1, self._total) for r in block)
        if not self._tty and (at_an_end or time.monotonic() - self._last_line > 10):
            self._last_line = time.monotonic()
            words = "  ".join(f"{k} {v}" for k, v in shown.items())
            logger.info("step %d/%d  %s%s", record["step"], self._total, words, self._left(record["step"]))

    def _left(self, step: int) -> str:
        """Say how long the steps that remain will take if they take as long as those since the start, with all else."""
        if not self._start < step < self._total:
            return ""
        a_step = (time.monotonic() - self._began) / (step - self._start)
        return f"  left {tqdm.format_interval(a_step * (self._total - step))}"

    def evaluation(self, record: dict[str, Any]) -> None:
        """Log one evaluation: ``step``, ``epoch`` and what :meth:`Scores.as_record` gives."""
        self.metrics.write(record)
        self.metrics.flush()
        named = dict(zip((f"iou/{name}" for name in self.names), record["per_class_iou"], strict=False))
        figures = {"miou": record["miou"], "pixel_accuracy": record["pixel_accuracy"], **named}
        self.trackers.scalars({f"val/{k}": v for k, v in figures.items() if v is not None}, record["step"])
        miou = "no mIoU (the truth holds one class at most)" if record["miou"] is None else f"mIoU {record['miou']:.4f}"
        skipped = f" over {record['images']} images, {len(record['skipped'])} left out" if "skipped" in record else ""
        self.say(f"epoch {record['epoch']}: {miou}, pixel accuracy {record['pixel_accuracy']:.4f}{skipped}")
        if self.names:
            self.say(in_columns(self.names, record["per_class_iou"]))

    def say(self, message: str) -> None:
        """Log a line above the progress bar."""
        with tqdm.external_write_mode(file=sys.stderr):
            logger.info(message)

    def sync(self) -> None:
        """Bring all lines to the disk: a checkpoint that follows does not hold them."""
        self.metrics.sync()
        self.timing.sync()

    def close(self) -> None:
        """Close the bar and all files."""
        self.bar.close()
        self.trackers.close()
        self.metrics.close()
        self.timing.close()


def in_columns(names: Sequence[str], iou: Sequence[float | None], width: int = 100) -> str:
    """Return the IoU of each class in percent, as many to a line as fit into ``width``; a dash for absent ones."""
    values = ["-" if value is None else f"{100 * value:.1f}" for value in iou]
    column = max(map(len, names)) + 6
    cells = [f"{name:<{column - 6}} {value:>5}" for name, value in zip(names, values, strict=True)]
    at_once = max(1, width // (column + 2))
    return "\n".join("  " + "  ".join(cells[i : i + at_once]) for i in range(0, len(cells), at_once))
