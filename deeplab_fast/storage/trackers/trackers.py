"""All trackers of a run as one; a run does not end because of them."""

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .background import Background
from .mlflow import MLflow
from .tensorboard import TensorBoard
from .tracker import TRACKERS, TrackedRun, Tracker
from .wandb import WeightsAndBiases

logger = logging.getLogger("deeplab_fast")

_KINDS: dict[str, Callable[[TrackedRun], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": lambda run: Background(partial(WeightsAndBiases, run)),
    "mlflow": lambda run: Background(partial(MLflow, run)),
}


class Trackers:
    """The trackers named ``names``. The first error of each is said once, and it gets nothing more."""

    def __init__(self, names: Iterable[str], run: TrackedRun) -> None:
        self._run = run
        self._open: dict[str, Tracker] = {}
        self._given_up: list[Tracker] = []
        for name in names:
            try:
                self._open[name] = _KINDS[name](run)
            except Exception as error:  # whatever a service's client may raise
                self._say(name, error)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Note the values that belong to a step."""
        self._each(lambda tracker: tracker.scalars(values, step))

    def image(self, name: str, draw: Callable[[], NDArray[np.uint8]], step: int) -> None:
        """Note a picture, RGB ``[H, W, 3]``, that belongs to a step; it is drawn only if someone takes it."""
        if self._open:
            picture = draw()
            self._each(lambda tracker: tracker.image(name, picture, step))

    def close(self) -> None:
        """Write what is waiting, and end."""
        self._each(lambda tracker: tracker.close())
        self._open = {}
        for tracker in self._given_up:
            tracker.abandon()

    def _each(self, call: Callable[[Tracker], Any]) -> None:
        for name, tracker in list(self._open.items()):
            try:
                call(tracker)
            except Exception as error:
                self._given_up.append(self._open.pop(name))
                self._say(name, error)

    def _say(self, name: str, error: Exception) -> None:
        logger.warning("%s: nothing more goes to %s (%s)", self._run.folder, TRACKERS[name], _words(error))


def _words(error: Exception) -> str:
    """Return an error in one line."""
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(words).split())[:200]
