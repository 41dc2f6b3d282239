"""Samples of shards, reached by offset, their bytes compared with the checksums of the index."""

import bisect
import logging
import os
import weakref
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deeplab_fast.errors import UserError

from ..sources import UNVERIFIED, ByteRange, Sample
from .description import Listing
from .index import Entry, OtherShard, ShardIndex, UnreadableIndex, index_path, read_index
from .names import set_name
from .parts import Opened, check_chosen, check_whole
from .scan import scan
from .shards import locate

logger = logging.getLogger("deeplab_fast")

_MOST_OPEN = 64  # files: a process may often open only 1024


class _Stamp(NamedTuple):
    """Tells a file from what it was."""

    bytes: int
    written_ns: int


class _OpenShard:
    """A shard that stays open, and the same, when its name is given to another file.

    Not a memory map: in one, bytes that are no longer there end the process.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    def stamp(self) -> _Stamp:
        status = os.fstat(self._descriptor)
        return _Stamp(status.st_size, status.st_mtime_ns)

    def read(self, offset: int, size: int) -> bytes:
        """Read ``size`` bytes, or fewer at the file's end."""
        data = os.pread(self._descriptor, size, offset)
        while len(data) < size and (more := os.pread(self._descriptor, size - len(data), offset + len(data))):
            data += more
        return data


class _Content(NamedTuple):
    """The samples of an opened shard, and its state."""

    entries: list[Entry]
    stamp: _Stamp
    shard_index: ShardIndex | None


class RecordSource:
    """Samples of shards, in the order of the shards; a shard is opened at its first use.

    ``verify``: compare each sample's bytes with the checksums of the index, ``auto`` where it has them, ``never``, or
    ``always``, which refuses a shard without them.
    """

    def __init__(self, data_file: str | Path, option: str = "data_file", verify: str = "auto") -> None:
        found = locate(data_file, option)
        self.shards = found.paths
        contents = _open_all(self.shards)
        (check_whole if found.whole else check_chosen)(_described(self.shards, contents))
        self.indexes = [content.shard_index for content in contents]
        self._stamps = [content.stamp for content in contents]
        self._entries = [content.entries for content in contents]
        self._ends = np.cumsum([len(entries) for entries in self._entries]).tolist()
        self._verified = verify != "never"
        self._files = self._opener()
        if not len(self):
            raise UserError(f"--{option}={data_file}: holds no sample")
        self._mention_unverified(verify)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_files"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._files = self._opener()

    def _opener(self) -> Callable[[int], _OpenShard]:
        shards = self.shards
        return lru_cache(maxsize=_MOST_OPEN)(lambda shard: _OpenShard(shards[shard]))

    def _mention_unverified(self, verify: str) -> None:
        without = [
            path
            for path, entries in zip(self.shards, self._entries, strict=True)
            if any(entry.image_crc32 == UNVERIFIED or entry.label_crc32 == UNVERIFIED for entry in entries)
        ]
        if not without or verify == "never":
            return
        some = f"{without[0]}{f' and {len(without) - 1} more' if len(without) > 1 else ''}"
        if verify == "always":
            raise UserError(f"--verify=always: {some}: no checksums to verify; run prepare records again")
        logger.warning("%s: no checksums, so damage may go unnoticed; prepare records writes them", some)

    def _locate(self, index: int) -> tuple[int, Entry]:
        shard = bisect.bisect_right(self._ends, index)
        return shard, self._entries[shard][index - (self._ends[shard - 1] if shard else 0)]

    def key(self, index: int) -> str:
        return self._locate(index)[1].key

    def where(self, index: int) -> tuple[str, str]:
        """Return the words that name image and label in errors."""
        shard, entry = self._locate(index)
        where = f"{self.shards[shard]}, sample {entry.key}"
        return f"{where}, image", f"{where}, label"

    def files(self) -> list[str]:
        return [str(shard) for shard in self.shards]

    def stamps(self) -> list[tuple[int, int]]:
        return [(stamp.bytes, stamp.written_ns) for stamp in self._stamps]

    def byte_ranges(self, index: int) -> tuple[ByteRange, ByteRange]:
        """Return where image and label lie, and their checksums where they are to be verified."""
        shard, entry = self._locate(index)
        image = ByteRange(shard, entry.image_offset, entry.image_size)
        label = ByteRange(shard, entry.label_offset, entry.label_size)
        if not self._verified:
            return image, label
        return image._replace(checksum=entry.image_crc32), label._replace(checksum=entry.label_crc32)

    def read(self, index: int) -> Sample:
        """Return a sample's bytes.

        Raises:
            UserError: they are not there, or not those that were written; names shard and sample.
        """
        ranges, where = self.byte_ranges(index), self.where(index)
        image, label = (self._bytes(part, name) for part, name in zip(ranges, where, strict=True))
        return Sample(self.key(index), image, label, *where)

    def _bytes(self, part: ByteRange, where: str) -> bytes:
        """Read and compare; the native loader says the same of the same damage (csrc/cpu/loader.cpp)."""
        try:
            file = self._files(part.file)
            data = file.read(part.offset, part.size)
        except OSError as error:
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


def _open_all(shards: list[Path]) -> list[_Content]:
    """Open every shard; an error names the first that cannot be used, and how many more there are."""
    contents, errors = [], []
    for shard in shards:
        try:
            contents.append(_open(shard))
        except UserError as error:
            errors.append(error)
    if errors:
        more = f" ({len(errors) - 1} more of {len(shards)} shards cannot be used)" if len(errors) > 1 else ""
        raise UserError(f"{errors[0]}{more}")
    return contents


def _open(shard: Path) -> _Content:
    try:
        status = shard.stat()
        index = read_index(shard)
    except OtherShard as error:
        raise UserError(
            f"{shard}: {error}: truncated, or replaced since. Run prepare records again; where another tool wrote the"
            f" shard, delete {index_path(shard).name}"
        ) from None
    except UnreadableIndex as error:
        logger.warning("%s: %s; the shard is read without it", index_path(shard), error)
        index = None
    except OSError as error:
        raise UserError(f"{shard}: {error.strerror}") from None
    entries = scan(shard) if index is None else index.samples
    return _Content(entries, _Stamp(status.st_size, status.st_mtime_ns), index)


def _described(shards: list[Path], contents: list[_Content]) -> list[Opened]:
    """Compare shards with their sets' descriptions, where there are any."""
    listing = lru_cache(maxsize=None)(Listing)
    opened = []
    for shard, (entries, stamp, index) in zip(shards, contents, strict=True):
        listed = listing(shard.with_name(f"{set_name(shard)}.tar"))
        listed.check(shard, stamp.bytes, len(entries), index.sha256 if index else None)
        opened.append(Opened(shard, len(entries), (index.part if index else None) or listed.part(shard)))
    return opened
