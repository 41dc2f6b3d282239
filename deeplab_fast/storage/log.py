"""The log of a run: metrics.jsonl, timing.jsonl, TensorBoard events, a progress bar.

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
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..errors import UserError
from .files import reason, replace_file
from .tensorboard import TensorBoard

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
        record = json.loads(line)
    except ValueError:
        return None
    return record if line.endswith(b"\n") and isinstance(record, dict) and isinstance(record.get("step"), int) else None


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read the objects of a file that :class:`JsonLines` wrote; torn lines are passed over."""
    return [record for _, record in _split(path.read_bytes()) if record is not None]


class RunLog:
    """The main process's log of a training run; other processes make none."""

    def __init__(self, folder: Path, total_steps: int, start: int, evaluated: int) -> None:
        """Open the files where ``start`` steps are done, evaluations up to step ``evaluated``: what is beyond goes."""

        # An evaluation comes before the next step: only that of the last step may not have been saved.
        self.metrics = JsonLines(
            folder / METRICS, start, lambda r: "miou" not in r or r["step"] < start or r["step"] <= evaluated
        )
        self.timing = JsonLines(folder / TIMING, start)
        self.tensorboard = TensorBoard(folder, purge_step=start + 1 if start else None)
        self._total = total_steps
        self._tty = sys.stderr.isatty()
        self._last_line = time.monotonic()
        self.bar = tqdm(total=total_steps, initial=start, unit="step", disable=not self._tty, dynamic_ncols=True)

    def steps(self, records: Iterable[dict[str, Any]], timing: dict[str, Any]) -> None:
        """Log a block of steps whose losses arrived together, and what they took on average."""
        block = list(records)
        for record in block:
            self.metrics.write(record)
            self.tensorboard.scalar("train/loss", record["loss"], record["step"])
            self.tensorboard.scalar("train/lr", record["lr"], record["step"])
            self.bar.update()
        if not block:
            return
        record = block[-1]
        self.timing.write({"step": record["step"], **timing})
        self.metrics.flush()
        self.timing.flush()
        for name in ("images_per_s", "data_share"):
            self.tensorboard.scalar(f"speed/{name}", timing[name], record["step"])
        shown = {
            "loss": f"{record['loss']:.4f}",
            "lr": f"{record['lr']:.2e}",
            "img/s": f"{timing['images_per_s']:.1f}",
            "data": f"{timing['data_share']:.0%}",
        }
        self.bar.set_postfix(shown)
        at_an_end = any(r["step"] in (1, self._total) for r in block)
        if not self._tty and (at_an_end or time.monotonic() - self._last_line > 10):
            self._last_line = time.monotonic()
            words = "  ".join(f"{k} {v}" for k, v in shown.items())
            logger.info("step %d/%d  %s", record["step"], self._total, words)

    def evaluation(self, record: dict[str, Any]) -> None:
        """Log one evaluation: ``step``, ``epoch`` and what :meth:`Scores.as_record` gives."""
        self.metrics.write(record)
        self.metrics.flush()
        for name in ("miou", "pixel_accuracy"):
            if record[name] is not None:
                self.tensorboard.scalar(f"val/{name}", record[name], record["step"])
        miou = "no mIoU (the truth holds one class at most)" if record["miou"] is None else f"mIoU {record['miou']:.4f}"
        skipped = f" over {record['images']} images, {len(record['skipped'])} left out" if "skipped" in record else ""
        self.say(f"epoch {record['epoch']}: {miou}, pixel accuracy {record['pixel_accuracy']:.4f}{skipped}")

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
        self.tensorboard.close()
        self.metrics.close()
        self.timing.close()
