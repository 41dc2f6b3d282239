"""Files beside the data that this program wrote, known by their content: others are the user's and stay."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from deeplab_fast.errors import UserError
from deeplab_fast.storage.files import parse_json, raise_if_broken, replace_file, writing
from deeplab_fast.storage.locks import lock_folder

from .sources import read_bytes

MANIFEST = ".deeplab_fast_lists.json"
FORMAT = "deeplab_fast.lists/2"
FORMER = "deeplab_fast.lists/1"  # one object, written at the end of a program
_HEAD = f"{json.dumps({'format': FORMAT})}\n".encode()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Written:
    """Notes of the files that were written below ``root``, a line each in a file there.

    A note is the file's digest and that of what it was made from. It is made before the file is written, so that the
    file is known as ours wherever a program ends; where there are several of one file, that of its content holds.
    Without a note, or where its line is damaged, a file is not known as ours.

    Raises:
        UserError: the system cannot read them.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._notes: dict[str, dict[str, str]] = {}  # name to digests, each with that of its source
        content = b""
        try:
            content = (root / MANIFEST).read_bytes()
        except OSError as error:
            raise_if_broken(root / MANIFEST, error)
        for name, own, source in _read(content):
            self._notes.setdefault(name, {})[own] = source
        self._saved: bytes | None = content  # what the file holds, None where lines were added to it
        self._takes_lines = content.startswith(_HEAD) and content.endswith(b"\n")

    def is_ours(self, path: Path) -> bool:
        """Tell whether the file is there as it was written."""
        return self.source(path) is not None

    def source(self, path: Path) -> str | None:
        """Return the digest of what our file was made from, empty where that is not known; None for another file."""
        name = self._name(path)
        notes = self._notes.get(name)
        if not notes or not path.is_file():
            return None
        own = digest(read_bytes(path))
        source = notes.get(own)
        if source is not None:
            self._notes[name] = {own: source}
        return source

    def write(self, path: Path, data: bytes, source: str = "", durable: bool = True) -> None:
        """Write a file that is ours from now on; ``source`` is the digest of what it was made from.

        ``durable`` as of :func:`~deeplab_fast.storage.files.replace_file`.

        Raises:
            UserError: it cannot be written.
        """
        self.note(path, data, source)
        with replace_file(path, durable) as partial:
            partial.write_bytes(data)
        self._notes[self._name(path)] = {digest(data): source}

    def note(self, path: Path, data: bytes, source: str = "") -> None:
        """Note that the file is ours where it holds ``data``.

        Raises:
            UserError: the note cannot be written.
        """
        name, own = self._name(path), digest(data)
        notes = self._notes.setdefault(name, {})
        if notes.get(own) == source:
            return
        if not self._takes_lines:
            self.save()
        self._saved = None
        with writing(self.root / MANIFEST), (self.root / MANIFEST).open("ab") as file:
            file.write(_line(name, own, source))
        notes[own] = source

    def save(self) -> None:
        """Write the notes anew, those that hold alone and in the order of the names, unless they are so already.

        Raises:
            UserError: they cannot be written.
        """
        lines = [_line(name, *note) for name, notes in sorted(self._notes.items()) for note in notes.items()]
        content = _HEAD + b"".join(lines)
        if content != self._saved:
            with replace_file(self.root / MANIFEST) as partial:
                partial.write_bytes(content)
            self._saved, self._takes_lines = content, True

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def _line(*words: str) -> bytes:
    return f"{json.dumps(words)}\n".encode()


def _read(content: bytes) -> Iterator[tuple[str, str, str]]:
    """Yield name, digest and digest of the source of each note; lines that hold none are passed over."""
    if not content.startswith(_HEAD):
        yield from _read_former(content)
        return
    for line in content[len(_HEAD) :].splitlines():
        try:
            name, own, source = parse_json(line)
        except (ValueError, TypeError):
            continue
        yield str(name), str(own), str(source)


def _read_former(content: bytes) -> list[tuple[str, str, str]]:
    try:
        found = parse_json(content)
        if found["format"] != FORMER:
            return []
        return [(str(name), str(own), str(source)) for name, (own, source) in found["files"].items()]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


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
        if path.exists() and read_bytes(path) == text.encode():
            written.note(path, text.encode())
        else:
            written.write(path, text.encode())
    written.save()


def remove_ours(written: Written, name: str) -> bool:
    """Remove a file that is as we wrote it; tell whether one that is not stays."""
    path = written.root / name
    if written.is_ours(path):
        path.unlink()
    return path.exists()
