"""The losses of a run's steps, from the device to the log."""

import logging
import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import TrainingDiverged
from ..runtime import peak_memory
from .optim import learning_rate
from .state import TrainState

logger = logging.getLogger("deeplab_fast")


class LossBlock:
    """Losses of the last steps, fetched from the device together, with the time they took."""

    def __init__(self, state: TrainState) -> None:
        self.state = state
        self.pending: list[tuple[int, int, float, Tensor, list[str]]] = []
        self.diverged: tuple[int, float, list[str]] | None = None
        self.data_s = 0.0
        self.since = time.perf_counter()

    def add(self, loss: Tensor, keys: list[str]) -> None:
        """Note the loss (scalar) of the step just done, made from the samples ``keys``."""
        state = self.state
        lr = learning_rate(state.config, state.step - 1, state.total_steps)
        self.pending.append((state.step, state.epoch, lr, loss, keys))

    def restart_clock(self) -> None:
        """Leave out of the timing what was done since the last step."""
        self.since, self.data_s = time.perf_counter(), 0.0

    def fetch(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Return records of the pending steps, up to the first non-finite loss, and their timing.

        Waits for the device.
        """
        state, pending = self.state, self.pending
        self.pending = []
        if not pending:
            return [], {}
        shares = torch.stack([p[3] for p in pending]).double()
        losses = state.world.sum(shares.clone()).tolist()
        elapsed = time.perf_counter() - self.since
        steps, images = len(pending), state.config.batch_size * state.config.accumulate_steps * state.world.size
        timing = {
            "step_ms": 1e3 * elapsed / steps,
            "data_ms": 1e3 * self.data_s / steps,
            "data_share": self.data_s / elapsed,
            "images_per_s": steps * images / elapsed,
            "max_memory_mb": peak_memory(state.device) / 2**20,
        }
        self.restart_clock()
        self._report_bad_labels(pending)
        records = []
        for (step, epoch, lr, _, keys), loss, share in zip(pending, losses, shares.tolist(), strict=True):
            if not math.isfinite(loss):
                blamed = [] if math.isfinite(share) else keys  # of the processes whose own share it is
                self.diverged = (step, loss, [key for part in state.world.gather(blamed) for key in part])
                break
            records.append({"step": step, "epoch": epoch, "loss": loss, "lr": lr})
        return records, timing

    def _report_bad_labels(self, pending: Sequence[tuple[int, int, float, Tensor, list[str]]]) -> None:
        """Warn of invalid labels: the loader refuses files with them; these came another way."""
        config = self.state.config
        count, largest = self.state.criterion.bad.take()
        if count:
            logger.warning(
                "steps %d to %d: %d labels are neither a class (0 to %d) nor the ignore label %d, the largest %d;"
                " they do not count",
                pending[0][0],
                pending[-1][0],
                count,
                config.num_classes - 1,
                config.ignore_label,
                largest,
            )

    def check(self) -> None:
        """Raise :class:`TrainingDiverged` where the last :meth:`fetch` met a non-finite loss."""
        if self.diverged is not None:
            step, loss, keys = self.diverged
            if not self.state.world.is_main:
                raise SystemExit(1)
            raise TrainingDiverged(
                f"step {step}: loss is {loss}; samples {', '.join(keys)}. A lower --base_lr, --warmup_steps or"
                " --clip_grad_norm may help; where continuing ends in the same way, remove the newest checkpoint first"
            )
