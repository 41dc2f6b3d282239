"""Files that are written whole or not at all; targets known to be writable beforehand."""

import errno
import json
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import UserError

logger = logging.getLogger("deeplab_fast")

_PARTIAL = re.compile(r"\.(?P<stem>.+)\.\d+\.partial(?P<suffix>\.[^.]+)?")
_MOST_DIGITS = 100  # of an integer in JSON: a product of three of them is still within a float's range
ROOM = 1 << 16  # bytes tried: more than the figures of an evaluation take
_tidied: set[Path] = set()  # folders in which this process has looked for what others left
_BROKEN = (errno.EIO, errno.EACCES, errno.EPERM, errno.ESTALE, errno.ENOTCONN, errno.EMFILE, errno.ENFILE)
_LOSES = (errno.EIO, errno.ENOSPC, errno.EDQUOT)
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def reason(error: OSError) -> str:
    """Return what the system says of an error, on one line."""
    return error.strerror or " ".join(str(error).split()) or type(error).__name__


def is_broken(error: OSError) -> bool:
    """Tell whether the system failed, which says nothing of what a file holds."""
    return error.errno in _BROKEN


def raise_if_broken(path: Path, error: OSError) -> None:
    """Raise :class:`UserError` where the system failed, which says nothing of what a file holds or whether it is there.

    For readers that take a file of another kind for none: what cannot be read now may well be theirs.
    """
    if is_broken(error):
        raise UserError(f"{path}: cannot be read ({reason(error)})") from None


@contextmanager
def writing(place: object) -> Iterator[None]:
    """Let what the system says of an operation in the block be one line that begins with ``place``, a file or a flag.

    Raises:
        UserError: an operation failed.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{place}: cannot be written ({reason(error)})") from None


def default_cache() -> Path:
    """Return ``$XDG_CACHE_HOME/deeplab_fast``, or ``~/.cache/deeplab_fast``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deeplab_fast"


@contextmanager
def replace_file(path: Path, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to; it takes the name ``path`` where the block succeeds.

    A reader sees the old file or the new one, and where the block fails the old one stays as it was. The temporary
    name is hidden, this process's own, and keeps the suffix. Only a process that is killed leaves it behind, and the
    next one that writes into the folder removes it. ``durable``: the content is on the disk before it has the name,
    and the name when the block is left.

    Raises:
        UserError: the disk is full, the folder cannot be written, or another host writes the file at this moment.
    """
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    _remove_left(path.parent)
    held = None
    try:
        with writing(path):
            held = _hold(partial)
            yield partial
            if durable:
                with partial.open("rb+") as file:
                    os.fsync(file.fileno())
            (rename if durable else os.replace)(partial, path)
    finally:
        with suppress(OSError):  # its folder is gone or can no longer be written
            partial.unlink(missing_ok=True)
        if held is not None:
            os.close(held)


def _hold(partial: Path) -> int | None:
    """Make a temporary file and lock it: so others know that it is being written. None where there are no locks.

    Raises:
        UserError: a process of the same number has it, on another host.
        OSError: it cannot be made.
    """
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if lock(descriptor, wait=False):
            return descriptor
    except OSError:
        os.close(descriptor)
        raise UserError(f"{partial}: another process is writing it") from None
    os.close(descriptor)  # an open file could not be renamed on Windows
    return None


def _remove_left(folder: Path) -> None:
    """Remove what processes that were killed had begun to write into a folder; this process looks once."""
    if folder in _tidied:
        return
    _tidied.add(folder)
    with suppress(OSError):  # its folder cannot be read: what is to be written will tell
        for path in [path for path in folder.iterdir() if unfinished(path.name)]:
            try:
                descriptor = os.open(path, os.O_RDWR)
                try:
                    if lock(descriptor, wait=False):
                        path.unlink()
                finally:
                    os.close(descriptor)
            except OSError as error:  # others: another process is writing it, or has just ended
                if error.errno in _LOSES:
                    logger.warning("%s: left by a program that was killed; not removed (%s)", path, reason(error))


def parse_json(text: str | bytes) -> Any:
    """Return what JSON holds; all JSON from outside is read here.

    Raises:
        ValueError: it is no JSON, nested more deeply than Python reads, or holds an integer that no float comes near.
    """
    try:
        return json.loads(text, parse_int=_integer)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _integer(digits: str) -> int:
    count = len(digits.lstrip("-"))
    if count > _MOST_DIGITS:
        raise ValueError(f"an integer of {count:,} digits; expected at most {_MOST_DIGITS}")
    return int(digits)


def read_json(path: Path) -> Any:
    """Return what a JSON file in UTF-8 holds.

    Raises:
        OSError: it cannot be read.
        ValueError: as :func:`parse_json`.
    """
    return parse_json(path.read_text(encoding="utf-8"))


def write_json(path: Path, content: Any, indent: int | None = 1) -> None:
    """Write JSON under ``path``, whole or not at all; ``indent`` None: on one line.

    Raises:
        UserError: it cannot be written.
    """
    with replace_file(path) as partial:
        partial.write_text(json.dumps(content, indent=indent) + "\n", encoding="utf-8")


def rename(partial: Path, path: Path) -> None:
    """Give a file, whose content is on the disk, its name, and wait until the folder is on the disk too.

    Raises:
        OSError: as the system says.
    """
    os.replace(partial, path)
    if sys.platform == "win32":
        return
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in _LOSES:  # others: a network file system that does not sync folders
            raise
    finally:
        os.close(descriptor)


def lock(descriptor: int, wait: bool, shared: bool = False) -> bool:
    """Take the system's lock (flock) of an open file or folder; return False where its file system has no locks.

    ``shared``: others may have it at the same time, where they share it too. The lock ends with the descriptor, and so
    with the process, however that ends.

    Raises:
        OSError: another process has it, and ``wait`` is False.
    """
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return False
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


def is_at(descriptor: int, path: Path) -> bool:
    """Tell whether an open file is the one that now has the name ``path``."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def unfinished(name: str) -> str | None:
    """Return the name that a file of :func:`replace_file` was to get, where ``name`` is its temporary one."""
    match = _PARTIAL.fullmatch(name)
    return None if match is None else match["stem"] + (match["suffix"] or "")


def check_folder(folder: Path, flag: str) -> None:
    """Find out whether ``folder``, which need not exist yet, takes files; leaves nothing behind.

    ``flag``: the words an error begins with, such as ``--report=DIR``.

    Raises:
        UserError: a file is in the way, the disk is full, or nothing can be written there.
    """
    with writing(flag):
        nearest = next(p for p in (folder, *folder.absolute().parents) if os.path.lexists(p))
        if not nearest.is_dir():
            raise UserError(f"{flag}: {nearest} is not a folder")
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(b"\0" * ROOM)


def check_file(path: Path, flag: str) -> None:
    """Find out whether ``path`` can be written, or replaced, as a file; leaves nothing behind.

    Raises:
        UserError: as :func:`check_folder`, or ``path`` is a folder.
    """
    with writing(flag), suppress(FileNotFoundError, NotADirectoryError):  # the second is the folder's
        path.lstat()  # a name may be too long
    if path.is_dir():
        raise UserError(f"{flag}: is a folder; expected the file to write")
    check_folder(path.parent, flag)


def make_folder(folder: Path, flag: str) -> None:
    """Make ``folder`` and those above it, or raise :class:`UserError`, which begins with ``flag``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{flag}: cannot be made ({reason(error)})") from None
