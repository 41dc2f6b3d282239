"""TensorBoard's event files, written as long as they can be: a run does not end because of them."""

import logging
import threading
from pathlib import Path
from typing import Any

logger = logging.getLogger("deeplab_fast")


class TensorBoard:
    """A writer of scalars. The first error is said once, and nothing more is written then."""

    def __init__(self, folder: Path, purge_step: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder
        self._hook = threading.excepthook
        threading.excepthook = self._without_ours  # its thread would print a traceback
        self._writer: Any = None
        try:
            self._writer = SummaryWriter(str(folder), purge_step=purge_step)
        except OSError as error:
            self._give_up(error)

    def scalar(self, name: str, value: float, step: int) -> None:
        """Note one value."""
        if self._writer is None:
            return
        try:
            self._writer.add_scalar(name, value, step)
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """Write what is waiting."""
        if self._writer is not None:
            try:
                self._writer.close()
            except OSError as error:
                self._give_up(error)
        threading.excepthook = self._hook

    def _give_up(self, error: OSError) -> None:
        self._writer = None
        logger.warning("%s: TensorBoard's events are no longer written (%s)", self.folder, error.strerror or error)

    def _without_ours(self, args: threading.ExceptHookArgs) -> None:
        if not type(args.thread).__module__.startswith("tensorboard"):
            self._hook(args)
