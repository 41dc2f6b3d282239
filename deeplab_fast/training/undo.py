"""A step that fails half-way, as where memory ends, taken back: what is saved then is the state of the steps done."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..runtime import restore_rng_state, rng_state
from .ema import by_dtype

if TYPE_CHECKING:
    from .state import TrainState


class BeforeStep:
    """What a step changes before it updates the weights: BatchNorm's statistics, and the random numbers drawn."""

    def __init__(self) -> None:
        self._buffers: list[Tensor] = []
        self._noted: list[Tensor] = []
        self._rng: dict[str, Tensor] = {}
        self._versions: list[int] | None = None  # of the weights, while a step is under way

    @torch.no_grad()
    def note(self, state: "TrainState") -> None:
        """Note the state before a step. Does not wait for the device."""
        self._versions = None
        if not self._buffers:
            self._buffers = list(state.model.buffers())
            self._noted = [torch.empty_like(buffer) for buffer in self._buffers]
        for noted, buffers in by_dtype(self._noted, self._buffers):
            torch._foreach_copy_(noted, buffers)
        self._rng = rng_state(state.device)
        self._versions = _versions(state)

    def close(self) -> None:
        """Note that the step is done."""
        self._versions = None

    @torch.no_grad()
    def undo(self, state: "TrainState") -> bool:
        """Take back what a step did; tell whether the state is that of the steps done: not where it is half updated.

        An update of the weights counts their versions up before it changes any (:class:`.optim.SGD`).
        """
        if self._versions is None:
            return True
        state.optimiser.zero_grad(set_to_none=True)
        if self._versions != _versions(state):
            return False
        for noted, buffer in zip(self._noted, self._buffers, strict=True):
            buffer.copy_(noted)
        restore_rng_state(self._rng, state.device)
        self._versions = None
        return True


def _versions(state: "TrainState") -> list[int]:
    return [parameter._version for parameter in state.model.parameters()]
