"""Samples that lie in a few large files, reached by offset: what sources of records have in common."""

import os
import weakref
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from deeplab_fast.errors import UserError, pass_on_memory

from .sources import UNVERIFIED, ByteRange, Sample

_MOST_OPEN = 64  # files: a process may often open only 1024


class Stamp(NamedTuple):
    """Tells a file from what it was: its size, and when it was last written."""

    bytes: int
    written_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        return cls(status.st_size, status.st_mtime_ns)


class OpenFile:
    """A file that stays open, and the same, when its name is given to another file.

    Not a memory map: in one, bytes that are no longer there end the process.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    def stamp(self) -> Stamp:
        return Stamp.of(os.fstat(self._descriptor))

    def read(self, offset: int, size: int) -> bytes:
        """Read ``size`` bytes, or fewer at the file's end."""
        data = os.pread(self._descriptor, size, offset)
        while len(data) < size and (more := os.pread(self._descriptor, size - len(data), offset + len(data))):
            data += more
        return data


class RangeSource(ABC):
    """A :class:`~deeplab_fast.data.sources.Source` of ranges of ``shards``, each of which is opened at its first use.

    ``stamps``: what the shards were when the ranges were found.
    """

    def __init__(self, shards: list[Path], stamps: list[Stamp]) -> None:
        self.shards, self._stamps = shards, stamps
        self._files = self._opener()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def key(self, index: int) -> str: ...

    @abstractmethod
    def where(self, index: int) -> tuple[str, str]: ...

    @abstractmethod
    def byte_ranges(self, index: int) -> tuple[ByteRange, ByteRange]: ...

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_files"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._files = self._opener()

    def _opener(self) -> Callable[[int], OpenFile]:
        shards = self.shards
        return lru_cache(maxsize=_MOST_OPEN)(lambda shard: OpenFile(shards[shard]))

    def require(self, indexes: Sequence[int]) -> None:  # noqa: B027 (what most sources need)
        """Return at once: the files are here."""

    def expect(self, indexes: Iterable[int]) -> None:  # noqa: B027
        """Do nothing: the files are here."""

    def files(self) -> list[str]:
        return [str(shard) for shard in self.shards]

    def stamps(self) -> list[tuple[int, int]]:
        return [(stamp.bytes, stamp.written_ns) for stamp in self._stamps]

    def read(self, index: int) -> Sample:
        """Return a sample's bytes.

        Raises:
            UserError: they are not there, or not those that were written; names shard and sample.
        """
        self.require((index,))
        ranges, where = self.byte_ranges(index), self.where(index)
        image, label = (self._bytes(part, name) for part, name in zip(ranges, where, strict=True))
        return Sample(self.key(index), image, label, *where)

    def _bytes(self, part: ByteRange, where: str) -> bytes:
        """Read and compare; the native loader says the same of the same damage (csrc/cpu/loader.cpp)."""
        try:
            file = self._files(part.file)
            data = file.read(part.offset, part.size)
        except OSError as error:
            pass_on_memory(error)
            raise UserError(f"{where}: {error.strerror}") from None
        if len(data) < part.size:
            raise UserError(f"{where}: the file ends before its bytes: it became shorter")
        if part.checksum == UNVERIFIED:
            if file.stamp() != self._stamps[part.file]:
                raise UserError(f"{where}: the shard was written to while it was in use")
        elif (found := zlib.crc32(data)) != part.checksum:
            raise UserError(
                f"{where}: checksum {found:08x}; its index says {part.checksum:08x}: damaged, or replaced since."
                " Run prepare records again; where another tool wrote the shard, delete its .idx"
            )
        return data
