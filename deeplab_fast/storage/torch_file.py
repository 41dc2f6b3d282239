"""torch.save with the first error: torch ends the file even so, and says ``unexpected pos`` in that error's place."""

import sys
from typing import IO, Any

import torch


class _Writing:
    """A file that is only written, and keeps what a write raised: native code may let go of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: BaseException | None = None

    def write(self, data: bytes | memoryview) -> int:
        try:
            return self.file.write(data)
        except BaseException as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        self.file.flush()


def save(content: Any, file: IO[bytes]) -> None:
    """Write ``content`` as torch.save does.

    Raises:
        OSError: the disk is full or the like.
        BaseException: whatever else came between, such as :class:`~deeplab_fast.errors.Interrupted` of a signal.
    """
    handled = sys.exception()
    writing = _Writing(file)
    try:
        torch.save(content, writing)  # type: ignore[arg-type]  # noqa: TID251
    except RuntimeError as error:
        first = writing.error or _first(error, handled)
        if first is error:
            raise
        raise first from None


def _first(error: BaseException, handled: BaseException | None) -> BaseException:
    """Return the error that others came after, but for the one that was being handled before."""
    while error.__context__ is not None and error.__context__ is not handled:
        error = error.__context__
    return error
