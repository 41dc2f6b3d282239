"""Files of records: written whole, by one process at a time."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from deeplab_fast.errors import UserError
from deeplab_fast.storage.files import replace_file


def write_json(path: Path, content: Any) -> None:
    """Write JSON under ``path``, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    with replace_file(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


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
