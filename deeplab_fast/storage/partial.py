"""A file that is being downloaded: its bytes so far, and beside them of which version of which URL they are."""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ..config.urls import public
from ..errors import UserError
from .files import is_at, lock, read_json, reason, rename, write_json, writing
from .halt import Halt

logger = logging.getLogger("deeplab_fast")

_LOOKS_S = 0.1  # between looks whether another process is done


@dataclass
class Partial:
    """The bytes that came so far, under ``path``: ``NAME.partial``; ``NAME.partial.json`` beside it says of what.

    ``url`` and ``validator`` (an ETag or a date of last change): of what they are, empty where a continuation could be
    of another version. ``total``: bytes of the whole, None where the server did not say.
    ``halt``: ends the download from another thread. ``shows_bar``: show its progress.
    """

    file: IO[bytes]
    path: Path
    url: str = ""
    validator: str = ""
    total: int | None = None
    halt: Halt = field(default_factory=Halt)
    shows_bar: bool = True
    came: int = field(init=False)

    def __post_init__(self) -> None:
        self.came = self.file.seek(0, os.SEEK_END)
        with suppress(OSError, ValueError, TypeError, KeyError):
            said = read_json(_about(self.path))
            url, validator, total = said["url"], said["validator"], said["total"]
            if isinstance(url, str) and isinstance(validator, str) and isinstance(total, int | None):
                self.url, self.validator, self.total = url, validator, total

    def begun(self, url: str) -> int:
        """Return how many bytes of ``url`` are there that its server can be asked to go on from; 0: begin anew."""
        fits = self.url == public(url) and self.validator and (self.total is None or self.came <= self.total)
        return self.came if fits else 0

    def begin(self, url: str, validator: str, total: int | None) -> None:
        """Drop what is there and note of what the next bytes are.

        Raises:
            UserError: the disk is full.
        """
        self.drop()
        self.url, self.validator, self.total = public(url), validator, total
        if validator:
            write_json(_about(self.path), {"url": self.url, "validator": validator, "total": total})

    def add(self, data: bytes) -> None:
        """Write bytes after those that are there.

        Raises:
            UserError: the disk is full; what came before stays.
            Halted: the download was asked to end.
        """
        self.halt.check()
        try:
            self.file.write(data)
            self.file.flush()
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self.file.fileno(), self.came)
            raise UserError(f"{self.path}: cannot be written ({reason(error)})") from None
        self.came += len(data)

    def check_room(self, more: int) -> None:
        """Check that the disk takes ``more`` bytes.

        Raises:
            UserError: it does not; says how many are free.
        """
        with suppress(OSError):  # some file systems do not say
            free = shutil.disk_usage(self.path.parent).free
            if free < more:
                raise UserError(f"{self.path.parent}: {free:,} bytes are free; expected {more:,} for the download")

    def drop(self) -> None:
        """Remove the bytes that came."""
        _about(self.path).unlink(missing_ok=True)
        self.file.seek(0)  # and brings what is in its buffer to the file
        os.ftruncate(self.file.fileno(), 0)
        self.came, self.url, self.validator, self.total = 0, "", "", None

    def finish(self, path: Path) -> None:
        """Give the bytes, once they are on the disk, the name ``path``.

        Raises:
            UserError: the disk is full or the folder cannot be written.
        """
        with writing(path):
            self.file.flush()
            os.fsync(self.file.fileno())
            rename(self.path, path)
            _about(self.path).unlink(missing_ok=True)


def partial_path(path: Path) -> Path:
    """Return where the bytes of what is to become ``path`` come in."""
    return path.with_name(path.name + ".partial")


def forget_partial(path: Path) -> None:
    """Remove what a download that was stopped as it ended left beside ``path``, which is there whole."""
    with suppress(OSError):
        _about(partial_path(path)).unlink(missing_ok=True)


def _about(partial: Path) -> Path:
    return partial.with_name(partial.name + ".json")


@contextmanager
def open_partial(path: Path, halt: Halt | None = None, shows_bar: bool = True) -> Iterator[Partial | None]:
    """Open what is to become ``path``, for this process alone; None where ``path`` is there by then.

    Waits for another process that has it open, and says so. Bytes that came stay when the block fails; a file without
    any does not. ``halt`` and ``shows_bar``: of the :class:`Partial`; ``halt`` ends the waiting, too.

    Raises:
        OSError: the folder cannot be written.
        Halted: the download was asked to end.
    """
    halt = halt or Halt()
    shared = name = partial_path(path)
    while True:
        with os.fdopen(os.open(name, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
            locked = _lock(file, path, halt)
            if locked and not is_at(file.fileno(), name) and not path.exists():
                continue  # the process that had it failed, and removed it
            try:
                if path.exists():
                    yield None
                    return
                if locked or name != shared:
                    yield Partial(file, name, halt=halt, shows_bar=shows_bar)
                    return
            finally:
                if os.fstat(file.fileno()).st_size == 0 and is_at(file.fileno(), name):
                    _about(name).unlink(missing_ok=True)
                    name.unlink(missing_ok=True)
            name = path.with_name(f"{path.name}.{os.getpid()}.partial")  # what no other process writes needs no lock


def _lock(file: IO[bytes], path: Path, halt: Halt) -> bool:
    """Lock ``file``, for which this process waits; return False where its file system has no locks."""
    is_said = False
    while True:
        try:
            return lock(file.fileno(), wait=False)
        except OSError:
            if not is_said:
                logger.info("%s: another process is downloading it; waiting for it", path)
        is_said = True
        halt.sleep(_LOOKS_S)
