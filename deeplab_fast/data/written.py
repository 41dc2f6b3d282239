"""Files beside the data that this program wrote, known by their content: others are the user's and stay."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from deeplab_fast.errors import UserError
from deeplab_fast.storage.files import raise_if_broken, read_json, replace_file, write_json
from deeplab_fast.storage.locks import lock_folder

from .sources import read_bytes

MANIFEST = ".deeplab_fast_lists.json"
FORMAT = "deeplab_fast.lists/1"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Written:
    """Digests of the files that were written below ``root`` and of what each was made from, kept in a file there.

    Without that file, or with one that holds something else, no file is known as ours.

    Raises:
        UserError: the system cannot read it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files: dict[str, tuple[str, str]] = {}  # name to digest, and its source's
        self._changed = False
        try:
            content = read_json(root / MANIFEST)
            if content["format"] == FORMAT:
                self._files = {str(name): (str(own), str(source)) for name, (own, source) in content["files"].items()}
        except OSError as error:
            raise_if_broken(root / MANIFEST, error)
        except (ValueError, KeyError, TypeError, AttributeError):
            pass

    def is_ours(self, path: Path) -> bool:
        """Tell whether the file is there as it was written."""
        known = self._files.get(self._name(path))
        return known is not None and path.is_file() and digest(read_bytes(path)) == known[0]

    def source(self, path: Path) -> str:
        """Return the digest of what the file was made from; empty where that is not known."""
        return self._files.get(self._name(path), ("", ""))[1]

    def record(self, path: Path, data: bytes, source: str = "") -> None:
        """Note the content of a file that is ours, and the digest of its source."""
        name, digests = self._name(path), (digest(data), source)
        self._changed |= self._files.get(name) != digests
        self._files[name] = digests

    def save(self) -> None:
        """Write the digests to their file, where one of them has changed."""
        if self._changed:
            write_json(self.root / MANIFEST, {"format": FORMAT, "files": self._files}, indent=0)
        self._changed = False

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


@contextmanager
def open_written(root: Path) -> Iterator[Written]:
    """Give the :class:`Written` of the folder ``root``, into which no other program writes in the meantime.

    Raises:
        UserError: one does, or the system cannot read the folder.
    """
    with lock_folder(root, str(root)):
        yield Written(root)


def check_unwritten(written: Written, texts: Mapping[str, str]) -> None:
    """Raise :class:`UserError` where one of these files is there, is not ours, and holds anything else."""
    for name, text in texts.items():
        path = written.root / name
        if path.exists() and not written.is_ours(path) and read_bytes(path) != text.encode():
            raise UserError(
                f"{path}: this program did not write what is in it, and would now write something else; move it away"
                " and run again"
            )


def write_texts(written: Written, texts: Mapping[str, str]) -> None:
    """Write each of these files below the root, unless that is its content already.

    Raises:
        UserError: one is there that is not ours (nothing is written then), or a file cannot be written.
    """
    check_unwritten(written, texts)
    for name, text in texts.items():
        path = written.root / name
        if not path.exists() or read_bytes(path) != text.encode():
            with replace_file(path) as partial:
                partial.write_bytes(text.encode())
        written.record(path, text.encode())
    written.save()


def remove_ours(written: Written, name: str) -> bool:
    """Remove a file that is as we wrote it; tell whether one that is not stays."""
    path = written.root / name
    if written.is_ours(path):
        path.unlink()
    return path.exists()
