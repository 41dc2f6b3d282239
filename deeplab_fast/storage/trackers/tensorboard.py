"""TensorBoard's event files, in the run's folder."""

import threading
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from .tracker import TrackedRun

_MEASURED = ("val/miou", "val/pixel_accuracy")  # what its table of runs shows beside the flags


class TensorBoard:
    """A writer of event files, with the run's flags as its hyperparameters."""

    def __init__(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        self._hook = threading.excepthook
        threading.excepthook = self._without_ours  # its thread would print a traceback
        self._writer = SummaryWriter(str(run.folder), purge_step=run.start + 1 if run.start else None)
        flags = {
            name: value if isinstance(value, bool | int | float) else str(value) for name, value in run.flags.items()
        }
        for summary in hparams(flags, dict.fromkeys(_MEASURED, 0.0))[:2]:
            self._writer._get_file_writer().add_summary(summary)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Note the values that belong to a step."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def image(self, name: str, image: NDArray[np.uint8], step: int) -> None:
        """Note a picture, RGB ``[H, W, 3]``, that belongs to a step."""
        self._writer.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is waiting."""
        try:
            self._writer.close()
        finally:
            threading.excepthook = self._hook

    def abandon(self) -> None:
        """Let threads print their errors again."""
        threading.excepthook = self._hook

    def _without_ours(self, args: threading.ExceptHookArgs) -> None:
        if not type(args.thread).__module__.startswith("tensorboard"):
            self._hook(args)
