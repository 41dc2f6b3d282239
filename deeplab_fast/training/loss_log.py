"""The losses of a run's steps, from the device to the log."""

import logging
import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..runtime import peak_memory, rng_state
from .optim import learning_rate
from .state import TrainState

logger = logging.getLogger("deeplab_fast")


_LEAST_SCALE = 1e-4  # of fp16: below it gradients of 6e8 still overflow, and every step is left out


class Divergence(NamedTuple):
    """The end of a training that cannot go on: the reason in words, and the last step, whose state there is still.

    ``rng``: the generators after it.
    """

    last_good: int
    reason: str
    rng: dict[str, Tensor]


class _Pending(NamedTuple):
    step: int
    epoch: int
    lr: float
    loss: Tensor
    keys: list[str]
    rng: dict[str, Tensor]


class LossBlock:
    """Losses of the last steps, fetched from the device together, with the time they took."""

    def __init__(self, state: TrainState) -> None:
        self.state = state
        self.pending: list[_Pending] = []
        self.divergence: Divergence | None = None
        self.data_s = 0.0
        self.since = time.perf_counter()

    def add(self, loss: Tensor, keys: list[str]) -> None:
        """Note the loss (scalar) of the step just done, made from the samples ``keys``."""
        state = self.state
        lr = learning_rate(state.config, state.step - 1, state.total_steps)
        self.pending.append(_Pending(state.step, state.epoch, lr, loss, keys, state.before.rng))

    def restart_clock(self) -> None:
        """Leave out of the timing what was done since the last step."""
        self.since, self.data_s = time.perf_counter(), 0.0

    def fetch(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Return records of the pending steps, up to one that must not count, and their timing.

        :attr:`divergence` is set where training cannot go on. Waits for the device.
        """
        state, pending = self.state, self.pending
        self.pending = []
        if not pending:
            return [], {}
        shares = torch.stack([one.loss for one in pending]).double()
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
        good = len(pending) - min(len(pending), int(state.guard.missed))
        if good < len(pending):
            self.divergence = self._bad_step(pending[good], losses[good], shares[good].item())
        elif state.scaler.is_enabled() and state.scaler.get_scale() < _LEAST_SCALE:
            reason = (
                f"step {state.step}: gradients overflow fp16 at every loss scale down to {_LEAST_SCALE:g}; expected"
                " --precision=bf16 or fp32"
            )
            self.divergence = Divergence(state.step, reason, rng_state(state.device))
        records = [
            {"step": one.step, "epoch": one.epoch, "loss": loss, "lr": one.lr}
            for one, loss in zip(pending[:good], losses, strict=False)
        ]
        return records, timing

    def _bad_step(self, one: _Pending, loss: float, share: float) -> Divergence:
        """Describe the first step whose loss or gradients are no numbers: nothing changed at it, nor after it."""
        if math.isfinite(loss):
            what, blamed = f"loss is {loss:g}, but its gradients are not finite", one.keys
        else:  # the samples of the processes whose own loss it is
            what, blamed = f"loss is {loss}", [] if math.isfinite(share) else one.keys
        keys = [key for part in self.state.world.gather(blamed) for key in part]
        return Divergence(one.step - 1, f"step {one.step}: {what}; samples {', '.join(keys)}", one.rng)

    def _report_bad_labels(self, pending: Sequence[_Pending]) -> None:
        """Warn of invalid labels: the loader refuses files with them; these came another way."""
        config = self.state.config
        count, largest = self.state.criterion.bad.take()
        if count:
            logger.warning(
                "steps %d to %d: %d labels are neither a class (0 to %d) nor the ignore label %d, the largest %d;"
                " they do not count",
                pending[0].step,
                pending[-1].step,
                count,
                config.num_classes - 1,
                config.ignore_label,
                largest,
            )
