"""A step that fails half-way, as where memory ends, taken back: what is saved then is the state of the steps done."""

from typing import TYPE_CHECKING

from torch import Tensor

from ..runtime import restore_rng_state, rng_state
from .guard import Guard

if TYPE_CHECKING:
    from .state import TrainState


class BeforeStep:
    """The host's knowledge of the state before a step; the device's part is kept by :class:`.guard.Guard`."""

    def __init__(self) -> None:
        self.rng: dict[str, Tensor] = {}  # the generators before the last step that was begun
        self._versions: list[int] | None = None  # of the weights, while a step is under way
        self._is_kept = False

    def note(self, state: "TrainState") -> None:
        """Note the state before a step. Does not wait for the device."""
        self._is_kept = False
        self.rng = rng_state(state.device)
        self._versions = _versions(state)

    def keep(self, guard: Guard) -> None:
        """Keep on the device what the step changes before its update."""
        guard.keep()
        self._is_kept = True

    def close(self) -> None:
        """Note that the step is done."""
        self._versions = None

    def undo(self, state: "TrainState") -> bool:
        """Take back what a step did; tell whether the state is that of the steps done: not where it is half updated.

        An update of the weights counts their versions up before it changes any (:class:`.optim.SGD`).
        """
        if self._versions is None:
            return True
        state.optimiser.zero_grad(set_to_none=True)
        if self._versions != _versions(state):
            return False
        if self._is_kept:
            state.guard.undo()
        restore_rng_state(self.rng, state.device)
        self._versions = None
        return True


def _versions(state: "TrainState") -> list[int]:
    return [parameter._version for parameter in state.model.parameters()]
