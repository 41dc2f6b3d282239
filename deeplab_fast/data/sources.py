"""Where samples come from: list files, two folders, or records, behind one small interface."""

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from deeplab_fast.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


class Sample(NamedTuple):
    """Encoded bytes of an image and its label, and the words that name them in an error."""

    key: str
    image: bytes
    label: bytes
    image_where: str
    label_where: str


class Place(NamedTuple):
    """Where bytes are: a file by its number, and the part of it; size -1 is all of the file."""

    file: int
    offset: int
    size: int


class Source(Protocol):
    """A sequence of encoded samples.

    :meth:`read` gives a sample's bytes; :meth:`files`, :meth:`places` and ``mapped`` (many samples
    lie in one file, which stays mapped) let native threads fetch them. :meth:`where` names them in errors.
    """

    @property
    def mapped(self) -> bool: ...

    def __len__(self) -> int: ...

    def key(self, index: int) -> str: ...

    def where(self, index: int) -> tuple[str, str]: ...

    def read(self, index: int) -> Sample: ...

    def files(self) -> list[str]: ...

    def places(self, index: int) -> tuple[Place, Place]: ...


def keys_digest(source: Source) -> str:
    """Tells whether two sources hold the same samples in the same order."""
    sha = hashlib.sha256()
    for i in range(len(source)):
        sha.update(source.key(i).encode() + b"\n")
    return sha.hexdigest()


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def unique_keys(paths: list[str]) -> list[str]:
    """A key for each image path: its stem, or, where stems repeat, its whole path without suffix.

    Dots become underscores: in a tar shard the first dot ends the key.
    """
    stems = [Path(p).stem.replace(".", "_") for p in paths]
    if len(set(stems)) == len(stems):
        return stems
    return list(_numbered(str(Path(p).with_suffix("")).lstrip("./").replace(".", "_") for p in paths))


def _numbered(keys: Iterable[str]) -> Iterator[str]:
    """The keys, a number added where one came before."""
    seen: set[str] = set()
    for key in keys:
        candidates = itertools.chain([key], (f"{key}_{n}" for n in itertools.count(2)))
        fresh = next(c for c in candidates if c not in seen)
        seen.add(fresh)
        yield fresh


@dataclass(frozen=True)
class FileSource:
    """Pairs of image and label files below ``root``."""

    root: Path
    images: list[str]
    labels: list[str]
    keys: list[str]
    mapped = False

    def __len__(self) -> int:
        return len(self.images)

    def key(self, index: int) -> str:
        return self.keys[index]

    def where(self, index: int) -> tuple[str, str]:
        return str(self.root / self.images[index]), str(self.root / self.labels[index])

    def read(self, index: int) -> Sample:
        image, label = self.where(index)
        return Sample(self.keys[index], read_bytes(Path(image)), read_bytes(Path(label)), image, label)

    def files(self) -> list[str]:
        root = os.fspath(self.root)  # joined as text: pathlib takes ten times as long
        return [os.path.join(root, name) for name in (*self.images, *self.labels)]

    def places(self, index: int) -> tuple[Place, Place]:
        return Place(index, 0, -1), Place(len(self.images) + index, 0, -1)


def write_text(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None


def list_source(root: str | Path, list_file: str | Path, must_exist: bool = True) -> FileSource:
    """Samples of a list file: ``IMAGE LABEL`` on each line, paths below ``root``.

    Raises:
        UserError: the list is missing, empty or badly formed, or names a file that is not there
            (unless ``must_exist`` is False: reading the sample then says so).
    """
    images, labels = read_list(list_file)
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"--data_root={root}: no such folder")
    for path in (*images, *labels) if must_exist else ():
        if not (root / path).is_file():
            raise UserError(f"{list_file}: {root / path} does not exist")
    return FileSource(root, images, labels, unique_keys(images))


def read_list(list_file: str | Path) -> tuple[list[str], list[str]]:
    """Image and label paths of a list file; blank lines are skipped."""
    path = Path(list_file)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise UserError(f"{path}: {reason}; expected a list file of 'IMAGE LABEL' lines") from None
    images, labels = [], []
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 2:
            plural = "" if len(fields) == 1 else "s"
            raise UserError(f"{path}, line {number}: {len(fields)} field{plural}; expected two, 'IMAGE LABEL'")
        images.append(fields[0])
        labels.append(fields[1])
    if not images:
        raise UserError(f"{path}: empty; expected 'IMAGE LABEL' lines")
    return images, labels


def folder_source(image_dir: str | Path, label_dir: str | Path) -> FileSource:
    """Samples of two parallel folders: every image has a label of the same relative name, ``.png``.

    Raises:
        UserError: a folder is missing, holds no image, or an image has no label.
    """
    image_dir, label_dir = Path(image_dir), Path(label_dir)
    for folder in (image_dir, label_dir):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
    found = sorted(p for p in image_dir.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise UserError(f"{image_dir}: no image; expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    labels = [label_dir / p.relative_to(image_dir).with_suffix(".png") for p in found]
    for image, label in zip(found, labels, strict=True):
        if not label.is_file():
            raise UserError(f"{image}: no label; expected {label}")
    names = [str(p.relative_to(image_dir)) for p in found]
    return FileSource(Path(), [str(p) for p in found], [str(p) for p in labels], unique_keys(names))
