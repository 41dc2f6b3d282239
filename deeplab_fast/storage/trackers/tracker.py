"""Trackers: what they are, which there are, and whether their packages are installed."""

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import UserError

# By the name of the flag and of the package: what people call it.
TRACKERS = {"tensorboard": "TensorBoard", "wandb": "Weights & Biases", "mlflow": "MLflow"}


@dataclass(frozen=True)
class TrackedRun:
    """The run that is tracked.

    ``identity``: drawn when the run began and kept by what continues it. ``start``: steps done before. ``flags``: what
    the run was started with, for tables of runs.
    """

    folder: Path
    identity: str
    start: int
    flags: Mapping[str, Any]


class Tracker(Protocol):
    """A place for figures, opened with a :class:`TrackedRun`. Any call may raise: the run goes on without it."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Note the values that belong to a step."""

    def image(self, name: str, image: NDArray[np.uint8], step: int) -> None:
        """Note a picture, RGB ``[H, W, 3]``, that belongs to a step."""

    def close(self) -> None:
        """Write what is waiting, and end."""

    def abandon(self) -> None:
        """Let go of what is held, after an error, when the run ends; nothing is written."""


def check_trackers(names: Iterable[str]) -> None:
    """Raise :class:`UserError` where a name is not that of a tracker, or its package is not installed."""
    for name in names:
        if name not in TRACKERS:
            raise UserError(f"--track={name}: expected some of {', '.join(TRACKERS)}, with commas between")
        if importlib.util.find_spec(name) is None:
            raise UserError(f"--track={name}: needs the package {name}; pip install 'deeplab_fast[{name}]'")
