"""Files that are on the disk, under their name, once they are said to be written."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from deeplab_fast.errors import UserError


def write_json(path: Path, content: Any) -> None:
    """Write JSON under ``path``, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(json.dumps(content, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    rename(partial, path)


def rename(partial: Path, path: Path) -> None:
    """Give a file, whose content is on the disk, its name, and wait until the folder is on the disk too."""
    os.replace(partial, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems do not sync folders
            os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes that lock ``folder`` out; a process that dies leaves no lock behind."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def written_alone(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to write it from its start, unless another process is writing it.

    Raises:
        UserError: one is.
    """
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b") as file:
        with suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"{path}: another process is writing it") from None
        if not _is_at(file, path):  # it was given its final name just now
            raise UserError(f"{path}: another process is writing it")
        file.truncate(0)
        yield file


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
