"""Folders and sets of files that belong together, written by one program at a time.

The system's locks (flock) hold them: they end with the process, however that ends. Network file systems pass on to the
other hosts those of a file, not those of a folder; on a file system without locks nothing keeps a second program out.
"""

import contextlib
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from ..errors import UserError
from .files import is_at, lock, reason, writing

logger = logging.getLogger("deeplab_fast")

_SILENT_S = 1.0  # of waiting: most of what is locked takes less
_LOOK_S = 0.02


@contextlib.contextmanager
def lock_file(path: Path, place: str) -> Iterator[None]:
    """Keep other programs that lock the file ``path`` out of the block; it says who has it, and is removed at the end.

    ``place``: what an error begins with, such as ``--train_dir=DIR``.

    Raises:
        UserError: another has it, says which; or the file cannot be written.
    """
    descriptor = _take(path, place)
    try:
        yield
    finally:
        try:
            path.unlink(missing_ok=True)  # the folder may have been removed
        except OSError as error:
            logger.warning("%s: not removed (%s); it keeps nobody out", path, reason(error))
        if descriptor is not None:
            os.close(descriptor)


def _take(path: Path, place: str) -> int | None:
    """Take the lock; return the descriptor that holds it, or None where the file system has no locks."""
    while True:
        with writing(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            has_locks = lock(descriptor, wait=False)
        except OSError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise _taken(place, holder or "a process") from None
        if not has_locks:
            os.close(descriptor)
            logger.warning("%s: its file system has no locks; nothing keeps a second run out", path.parent)
            return None
        if is_at(descriptor, path):  # else the one before removed it in the meantime
            with writing(path):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
            return descriptor
        os.close(descriptor)


def _taken(place: str, holder: str) -> UserError:
    return UserError(f"{place}: another run is writing there ({holder}); wait for it, or choose another folder")


@contextlib.contextmanager
def lock_folder(folder: Path, place: str = "") -> Iterator[bool]:
    """Keep other processes that lock ``folder`` out of the block; waits for the one that is in it, and says so.

    Gives False where the file system has no locks. ``place``: refuses instead, with an error that begins so.

    Raises:
        UserError: another process is in it, where this one is not to wait; or it cannot be opened.
    """
    descriptor = _open(folder)
    try:
        try:
            has_locks = lock(descriptor, wait=False)
        except BlockingIOError:
            if place:
                raise _taken(place, "a process") from None
            has_locks = _wait(descriptor, folder)
        yield has_locks
    finally:
        os.close(descriptor)


def _wait(descriptor: int, folder: Path) -> bool:
    """Take a lock that another process has, once it is free."""
    begun = time.monotonic()
    while time.monotonic() - begun < _SILENT_S:
        time.sleep(_LOOK_S)
        with contextlib.suppress(BlockingIOError):
            return lock(descriptor, wait=False)
    logger.info("%s: another process is writing there; waiting for it", folder)
    return lock(descriptor, wait=True)


class SharedFolder:
    """A folder that programs write into together once the first has said what they make; as a context manager.

    ``is_alone``: no other is in it, and none comes in before :meth:`share`; one that comes later waits until then, and
    says so.

    Raises:
        UserError: it cannot be opened.
    """

    def __init__(self, folder: Path, place: str) -> None:
        self._folder, self._place = folder, place
        self.is_alone = True

    def __enter__(self) -> Self:
        self._descriptor = _open(self._folder)
        try:
            self._enter()
        except BaseException:
            os.close(self._descriptor)
            raise
        return self

    def _enter(self) -> None:
        try:
            lock(self._descriptor, wait=False)
        except BlockingIOError:
            self.is_alone = False
            try:
                lock(self._descriptor, wait=False, shared=True)
            except BlockingIOError:
                logger.info("%s: another run begins there, or replaces results; waiting for it", self._place)
                lock(self._descriptor, wait=True, shared=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def share(self) -> None:
        """Let the others in."""
        lock(self._descriptor, wait=True, shared=True)
        self.is_alone = False


def _open(folder: Path) -> int:
    """Open a folder for its lock; on Windows, which opens none and has no such locks, what stands for it."""
    with writing(folder):
        return os.open(os.devnull if sys.platform == "win32" else folder, os.O_RDONLY)
