"""Files of a folder and of its subfolders, linked ones too; what is left out is counted, never dropped in silence."""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deeplab_fast.errors import UserError
from deeplab_fast.ops import PILLOW_SUFFIXES

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", *PILLOW_SUFFIXES)

_LITTER = ("thumbs.db", "desktop.ini", "__macosx", "@eadir")  # what systems leave beside images
_Identity = tuple[int, int]  # device and inode


@dataclass
class Found:
    """``files`` below ``folder``, sorted; ``left_out`` counts the rest by kind, ``others`` by suffix."""

    folder: Path
    files: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)

    def describe(self) -> str:
        """Return what was left out, as "3 hidden files, 1 file of another kind (.txt)"; empty where nothing was."""
        parts = [f"{n} {_plural(kind) if n > 1 else kind}" for kind, n in sorted(self.left_out.items())]
        if count := self.others.total():
            kinds = ", ".join(sorted(self.others))
            parts.append(
                f"{count} files of other kinds ({kinds})" if count > 1 else f"1 file of another kind ({kinds})"
            )
        return ", ".join(parts)


def _plural(kind: str) -> str:
    noun, _, rest = kind.partition(" to ")
    return f"{noun}s to {rest}" if rest else f"{noun}s"


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder of this name is no user's data: ``.x``, macOS's ``._x.jpg``, ``Thumbs.db``, ..."""
    return name.startswith(".") or name.lower() in _LITTER


def find_images(folder: str | Path, skip: str | Path | None = None) -> Found:
    """Find the images of a folder and its subfolders; arguments and errors as :func:`find_files`."""
    return find_files(folder, IMAGE_SUFFIXES, skip)


def find_files(folder: str | Path, suffixes: tuple[str, ...], skip: str | Path | None = None) -> Found:
    """Find the files that end in one of ``suffixes``, in any case of letters, in a folder and its subfolders.

    Linked folders are followed, except to a folder above. ``skip`` is a subfolder that is no part of the search.

    Raises:
        UserError: a folder cannot be read.
    """
    found = Found(Path(folder))
    skipped = _identity(skip) if skip is not None else None
    for path in _walk(found, skipped):
        suffix = os.path.splitext(path)[1].lower()
        if suffix in suffixes:
            found.files.append(Path(path))
        else:
            found.others[suffix or "no suffix"] += 1
    found.files.sort()
    return found


def _identity(path: str | Path) -> _Identity:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _walk(found: Found, skipped: _Identity | None) -> Iterator[str]:
    """Yield the path of each file; count what is left out in ``found``."""
    real = Path(os.path.realpath(found.folder))
    pending = [(os.fspath(found.folder), frozenset(_identity(p) for p in (real, *real.parents)))]
    while pending:
        folder, above = pending.pop()
        for entry in _entries(folder):
            if is_hidden(entry.name):
                found.left_out["hidden folder" if entry.is_dir(follow_symlinks=False) else "hidden file"] += 1
                continue
            try:
                status = entry.stat()
            except FileNotFoundError:  # a link to nothing: reading what should be a file names it
                if os.path.splitext(entry.name)[1]:
                    yield entry.path
                else:
                    found.left_out["link to nothing"] += 1
                continue
            except OSError as error:  # a link to itself, a device that fails
                raise UserError(f"{entry.path}: {error.strerror}") from None
            identity = (status.st_dev, status.st_ino)
            if stat.S_ISREG(status.st_mode):
                yield entry.path
            elif not stat.S_ISDIR(status.st_mode):
                found.left_out["device or pipe"] += 1
            elif identity in above:
                found.left_out["link to a folder above"] += 1
            elif identity != skipped:
                pending.append((entry.path, above | {identity}))


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from None
