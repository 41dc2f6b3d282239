"""Weights & Biases, as its own environment variables say (``WANDB_PROJECT``, ``WANDB_MODE``, ...)."""

import os
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from .tracker import TrackedRun


class WeightsAndBiases:
    """A run there, which a resumed one goes on; its files lie in the run's folder.

    What a killed run had noted after its last checkpoint stays: the service takes nothing back.
    """

    def __init__(self, run: TrackedRun) -> None:
        import wandb

        self._as_image = wandb.Image
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "deeplab_fast"),
            name=os.environ.get("WANDB_NAME", run.folder.resolve().name),
            id=run.identity or None,
            resume="allow",
            dir=str(run.folder),
            config=dict(run.flags),
            settings=wandb.Settings(console="off", silent=True),
        )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Note the values that belong to a step."""
        self._run.log({**values, "step": step})

    def image(self, name: str, image: NDArray[np.uint8], step: int) -> None:
        """Note a picture, RGB ``[H, W, 3]``, that belongs to a step."""
        self._run.log({name: self._as_image(image), "step": step})

    def close(self) -> None:
        """Write what is waiting, and end."""
        self._run.finish()

    def abandon(self) -> None:
        """Leave the run to the client, which ends it with the program."""
