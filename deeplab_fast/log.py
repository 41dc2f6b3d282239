"""What a run leaves to read: metrics.jsonl, timing.jsonl, TensorBoard events, a progress bar.

``metrics.jsonl`` holds what the seed decides (losses, learning rates, evaluations), one object a
line: a resumed run's is equal byte for byte to an uninterrupted one's. ``timing.jsonl`` holds what
the machine decides (times, rates, memory).
"""

import json
import logging
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

logger = logging.getLogger("deeplab_fast")

METRICS = "metrics.jsonl"
TIMING = "timing.jsonl"


class JsonLines:
    """A file of JSON objects that can be cut back to where a checkpoint was taken."""

    def __init__(self, path: Path, keep_bytes: int = 0) -> None:
        self.path = path
        if path.exists():
            if path.stat().st_size < keep_bytes:
                logger.warning("%s: shorter than the checkpoint says; earlier lines are lost", path)
            else:
                os.truncate(path, keep_bytes)
        self._file = path.open("a", encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record) + "\n")

    def flush(self) -> None:
        self._file.flush()

    def position(self) -> int:
        """Bytes so far, all of them on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        self._file.close()


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class RunLog:
    """The main process's log of a training run; other processes make none."""

    def __init__(self, folder: Path, total_steps: int, start: int, positions: dict[str, int]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.metrics = JsonLines(folder / METRICS, positions.get(METRICS, 0))
        self.timing = JsonLines(folder / TIMING, positions.get(TIMING, 0))
        self.board = SummaryWriter(str(folder), purge_step=start + 1 if start else None)
        self._total = total_steps
        self._tty = sys.stderr.isatty()
        self._last_line = time.monotonic()
        self.bar = tqdm(total=total_steps, initial=start, unit="step", disable=not self._tty, dynamic_ncols=True)

    def steps(self, records: Iterable[dict[str, Any]], timing: dict[str, Any]) -> None:
        """Log a block of steps whose losses arrived together, and what they took on average."""
        block = list(records)
        for record in block:
            self.metrics.write(record)
            self.board.add_scalar("train/loss", record["loss"], record["step"])
            self.board.add_scalar("train/lr", record["lr"], record["step"])
            self.bar.update()
        if not block:
            return
        record = block[-1]
        self.timing.write({"step": record["step"], **timing})
        self.metrics.flush()
        self.timing.flush()
        for name in ("images_per_s", "data_share"):
            self.board.add_scalar(f"speed/{name}", timing[name], record["step"])
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
        """Log one evaluation: ``step``, ``epoch``, ``miou``, ``per_class_iou``, ``pixel_accuracy``."""
        self.metrics.write(record)
        self.metrics.flush()
        for name in ("miou", "pixel_accuracy"):
            self.board.add_scalar(f"val/{name}", record[name], record["step"])
        self.say(f"epoch {record['epoch']}: mIoU {record['miou']:.4f}, pixel accuracy {record['pixel_accuracy']:.4f}")

    def say(self, message: str) -> None:
        with tqdm.external_write_mode(file=sys.stderr):
            logger.info(message)

    def positions(self) -> dict[str, int]:
        """Lengths of the files, for a checkpoint."""
        return {METRICS: self.metrics.position(), TIMING: self.timing.position()}

    def close(self) -> None:
        self.bar.close()
        self.metrics.close()
        self.timing.close()
        self.board.close()
