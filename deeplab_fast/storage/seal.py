"""Files of torch.save with a seal: a digest of every byte, and a few facts, where a zip file has room for a comment.

torch, zipfile and every other reader of such files pass over the comment, so a sealed file is an ordinary one to them.
The seal is read without reading the file; :func:`check` reads all of it.
"""

import hashlib
import json
import os
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from . import torch_file
from .files import parse_json

_MARK = b"deeplab_fast.seal/1 "
_DIGEST = b" sha256="
_HEX = 64
_LARGEST = 0xFFFF  # of a zip file's comment
_BLOCK = 1 << 20


class Damaged(Exception):
    """A file whose bytes are not those that were written; the text says how that is known."""


@dataclass(frozen=True)
class Seal:
    """``facts`` are plain values that whoever wrote the file wants known without loading it."""

    facts: dict[str, Any]
    size: int  # of the comment, in bytes
    digest: str = field(repr=False)


class _Hashing:
    """A file that is written once from front to back, and hashed on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.sha = file, hashlib.sha256()
        self.last = b""  # the two bytes not hashed yet: in the end, how long the comment is

    def write(self, data: bytes | memoryview) -> int:
        count = self.file.write(data)
        view = memoryview(data).cast("B")
        if len(view) < 2:
            view = memoryview(self.last + view)
        else:
            self.sha.update(self.last)
        self.sha.update(view[:-2])
        self.last = bytes(view[-2:])
        return count

    def flush(self) -> None:
        self.file.flush()


def write(content: dict[str, Any], file: IO[bytes], facts: dict[str, Any]) -> None:
    """Write ``content`` as torch.save does, and seal it with ``facts``, which JSON can hold.

    Raises:
        OSError: the disk is full or the like.
    """
    hashing = _Hashing(file)
    torch_file.save(content, hashing)  # type: ignore[arg-type]
    text = _MARK + json.dumps(facts).encode()
    size = len(text) + len(_DIGEST) + _HEX
    if hashing.last != b"\0\0" or size > _LARGEST:
        raise RuntimeError("torch.save did not end as a zip file without a comment does")
    length = size.to_bytes(2, "little")
    hashing.sha.update(length + text)
    file.seek(-2, os.SEEK_CUR)
    file.write(length + text + _DIGEST + hashing.sha.hexdigest().encode())


def read(path: Path) -> Seal | None:
    """Read a file's seal, not yet compared with its bytes; None where there is none that can be read.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(-min(file.tell(), _LARGEST), os.SEEK_END)
        tail = file.read()
    at = tail.rfind(_MARK)
    text, separator, digest = tail[at + len(_MARK) :].rpartition(_DIGEST)
    if at < 2 or not separator:
        return None
    try:
        facts = parse_json(text)
    except ValueError:
        return None
    return Seal(facts, len(tail) - at, digest.decode(errors="replace")) if isinstance(facts, dict) else None


def check(path: Path, must_be_sealed: bool = False) -> Seal | None:
    """Compare a file's bytes with its seal or, where it has none, with the checksums of the zip file that it is.

    Raises:
        OSError: the file cannot be read.
        Damaged: they differ, or there is no seal and there must be.
    """
    seal = read(path)
    if seal is None:
        if must_be_sealed:
            raise Damaged("its digest is missing")
        _check_zip(path)
        return None
    left = path.stat().st_size - len(_DIGEST) - _HEX
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while left > 0 and (block := file.read(min(left, _BLOCK))):
            sha.update(block)
            left -= len(block)
    if sha.hexdigest() != seal.digest:
        raise Damaged("its bytes do not match its digest")
    return seal


def _check_zip(path: Path) -> None:
    """Raise :class:`Damaged` where a part of a zip file does not have the checksum that is stored with it."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            if file.read(4) == b"PK\3\4":
                raise Damaged("cut short: it begins as a zip file and does not end as one")
        return  # older files of torch.save are none, and hold no checksum
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise Damaged(f"not a whole zip file: {error}") from None
    if bad is not None:
        raise Damaged(f"the checksum of its part {bad} does not match")
