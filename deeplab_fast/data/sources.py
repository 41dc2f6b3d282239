"""Sources of samples: list files, two folders, or records, behind one small interface."""

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from deeplab_fast.errors import UserError, pass_on_memory
from deeplab_fast.storage.files import writing

from .lists import is_text, read_list, repetitions, resolve, some_of
from .matching import match_labels

logger = logging.getLogger("deeplab_fast")


class Sample(NamedTuple):
    """Encoded bytes of an image and its label, and the words that name them in an error."""

    key: str
    image: bytes
    label: bytes
    image_where: str
    label_where: str


UNVERIFIED = -1  # instead of a checksum


class ByteRange(NamedTuple):
    """A range of a file's bytes (size -1: all of them), the file by its number, and their CRC-32 if known."""

    file: int
    offset: int
    size: int
    checksum: int = UNVERIFIED


class Source(Protocol):
    """A sequence of encoded samples.

    :meth:`read` gives a sample's bytes; :meth:`files` and :meth:`byte_ranges` let native threads fetch
    them; :meth:`stamps` gives each file's size and time (ns) where its parts were found by them, else nothing.
    :meth:`where` names them in errors. :meth:`require` waits until samples that come from elsewhere can be read, in
    the thread that a signal interrupts; :meth:`expect` says in which order they will be wanted.
    """

    def __len__(self) -> int: ...

    def key(self, index: int) -> str: ...

    def where(self, index: int) -> tuple[str, str]: ...

    def read(self, index: int) -> Sample: ...

    def files(self) -> list[str]: ...

    def stamps(self) -> list[tuple[int, int]]: ...

    def byte_ranges(self, index: int) -> tuple[ByteRange, ByteRange]: ...

    def require(self, indexes: Sequence[int]) -> None: ...

    def expect(self, indexes: Iterable[int]) -> None: ...


def as_they_come(source: Source, indexes: Iterable[int]) -> Iterator[int]:
    """Yield sample numbers, each once it can be read: work on them may then be handed to threads."""
    for index in indexes:
        source.require((index,))
        yield index


def keys_digest(source: Source) -> str:
    """Return a SHA-256 of the keys: equal where two sources hold the same samples in the same order."""
    sha = hashlib.sha256()
    for i in range(len(source)):
        sha.update(source.key(i).encode() + b"\n")
    return sha.hexdigest()


def read_bytes(path: Path) -> bytes:
    """Read a file, or raise :class:`UserError`, which names it."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        pass_on_memory(error)
        raise UserError(f"{path}: {error.strerror if isinstance(error, OSError) else error}") from None


def unique_keys(paths: list[str]) -> list[str]:
    """Make a key for each image path: its stem, or, where stems repeat, its whole path without suffix.

    Dots become underscores: in a tar shard the first dot ends the key.
    """
    stems = [os.path.splitext(os.path.basename(p))[0].replace(".", "_") for p in paths]  # pathlib is ten times slower
    if len(set(stems)) == len(stems):
        return stems
    return list(_numbered(os.path.splitext(_tidy(p))[0].lstrip("./").replace(".", "_") for p in paths))


def _tidy(path: str) -> str:
    """Return the path without ``./`` and ``//``."""
    return str(Path(path)) if "//" in path or "./" in path else path


def _numbered(keys: Iterable[str]) -> Iterator[str]:
    """Yield the keys, the smallest free number from 2 added where one came before."""
    seen: set[str] = set()
    free: dict[str, int] = {}  # of a key: no smaller number is
    for key in keys:
        fresh = key
        while fresh in seen:
            number = free.get(key, 2)
            fresh, free[key] = f"{key}_{number}", number + 1
        seen.add(fresh)
        yield fresh


@dataclass(frozen=True)
class FileSource:
    """Pairs of image and label files below ``root``."""

    root: Path
    images: list[str]
    labels: list[str]
    keys: list[str]

    def __len__(self) -> int:
        return len(self.images)

    def key(self, index: int) -> str:
        return self.keys[index]

    def where(self, index: int) -> tuple[str, str]:
        return str(self.root / self.images[index]), str(self.root / self.labels[index])

    def read(self, index: int) -> Sample:
        """Read a sample's files, or raise :class:`UserError`, which names the one that cannot be read."""
        image, label = self.where(index)
        return Sample(self.keys[index], read_bytes(Path(image)), read_bytes(Path(label)), image, label)

    def files(self) -> list[str]:
        """Return the paths of all images, then of all labels."""
        root = os.fspath(self.root)  # joined as text: pathlib takes ten times as long
        return [os.path.join(root, name) for name in (*self.images, *self.labels)]

    def stamps(self) -> list[tuple[int, int]]:
        return []

    def byte_ranges(self, index: int) -> tuple[ByteRange, ByteRange]:
        return ByteRange(index, 0, -1), ByteRange(len(self.images) + index, 0, -1)

    def require(self, indexes: Sequence[int]) -> None:
        """Return at once: files are here."""

    def expect(self, indexes: Iterable[int]) -> None:
        """Do nothing: files are here."""


def write_text(path: Path, text: str) -> None:
    """Write a text file, or raise :class:`UserError`, which names it."""
    with writing(path):
        path.write_text(text, encoding="utf-8")


def list_source(root: str | Path, list_file: str | Path, must_exist: bool = True) -> FileSource:
    """Open the samples of a list file: ``IMAGE LABEL`` lines, paths below ``root``; logs what the list repeats.

    Raises:
        UserError: the list is missing, empty or badly formed, or names a file that is not there
            (unless ``must_exist`` is False: reading the sample then says so).
    """
    images, labels = read_list(list_file)
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"--data_root={root}: no such folder")
    names, missing = resolve(root, [*images, *labels])
    if missing and must_exist:
        others = f", nor do {len(missing) - 1:,} others: {some_of(missing[1:], 4)}" if len(missing) > 1 else ""
        raise UserError(f"{list_file}: {root / missing[0]} does not exist{others}")
    images, labels = names[: len(images)], names[len(images) :]
    for said in repetitions(list_file, images, labels):
        logger.info("%s", said)
    return FileSource(root, images, labels, unique_keys(images))


def folder_source(image_dir: str | Path, label_dir: str | Path, label_suffix: str = "") -> FileSource:
    """Open the samples of two parallel folders, or of one: each image has a PNG label of the same relative name.

    ``label_suffix`` stands between that name and ``.png``. Logs what was left out of the folders.

    Raises:
        UserError: a folder is missing, holds no image, or images have no label.
    """
    pairs = match_labels(image_dir, label_dir, label_suffix)
    names = [os.path.relpath(path, image_dir) for path, _ in pairs]
    for name in names:
        if not is_text(name):
            raise UserError(f"{image_dir}: the name {name!r} is not UTF-8; expected one that records and logs can hold")
    return FileSource(Path(), [str(i) for i, _ in pairs], [str(label) for _, label in pairs], unique_keys(names))


def names_below(source: FileSource, image_dir: str | Path) -> list[str]:
    """Return the images' paths below ``image_dir``, with ``/`` between, whatever the system."""
    return [os.path.relpath(image, image_dir).replace(os.sep, "/") for image in source.images]
