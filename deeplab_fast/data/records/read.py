"""Samples of shards, reached by offset, their bytes compared with the checksums of the index."""

import bisect
import logging
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deeplab_fast.errors import UserError

from ..ranges import RangeSource, Stamp
from ..sources import UNVERIFIED, ByteRange
from .description import Listing
from .index import Entry, OtherShard, ShardIndex, UnreadableIndex, index_path, read_index
from .names import set_name
from .parts import Opened, check_chosen, check_whole
from .scan import scan
from .shards import Found, locate

logger = logging.getLogger("deeplab_fast")


class Content(NamedTuple):
    """The samples of an opened shard, and its state."""

    entries: list[Entry]
    stamp: Stamp
    shard_index: ShardIndex | None


class RecordSource(RangeSource):
    """Samples of shards, in the order of the shards; a shard is opened at its first use.

    ``verify``: compare each sample's bytes with the checksums of the index, ``auto`` where it has them, ``never``, or
    ``always``, which refuses a shard without them.
    """

    def __init__(self, data_file: str | Path, option: str = "data_file", verify: str = "auto") -> None:
        found = locate(data_file, option)
        self._hold(found, _open_all(found.paths), f"--{option}={data_file}", verify)

    def _hold(self, found: Found, contents: list[Content], text: str, verify: str) -> None:
        """Check that what was opened belongs together, and keep it; an error begins with ``text``."""
        super().__init__(found.paths, [content.stamp for content in contents])
        (check_whole if found.whole else check_chosen)(_described(self.shards, contents))
        self.indexes = [content.shard_index for content in contents]
        self._entries = [content.entries for content in contents]
        self._ends = np.cumsum([len(entries) for entries in self._entries]).tolist()
        self._verified = verify != "never"
        if not len(self):
            raise UserError(f"{text}: holds no sample")
        self._mention_unverified(verify)

    def __len__(self) -> int:
        return int(self._ends[-1])

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

    def byte_ranges(self, index: int) -> tuple[ByteRange, ByteRange]:
        """Return where image and label lie, and their checksums where they are to be verified."""
        shard, entry = self._locate(index)
        image = ByteRange(shard, entry.image_offset, entry.image_size)
        label = ByteRange(shard, entry.label_offset, entry.label_size)
        if not self._verified:
            return image, label
        return image._replace(checksum=entry.image_crc32), label._replace(checksum=entry.label_crc32)


def _open_all(shards: list[Path]) -> list[Content]:
    """Open every shard; an error names the first that cannot be used, and how many more there are."""
    contents, errors = [], []
    for shard in shards:
        try:
            contents.append(open_shard(shard))
        except UserError as error:
            errors.append(error)
    if errors:
        more = f" ({len(errors) - 1} more of {len(shards)} shards cannot be used)" if len(errors) > 1 else ""
        raise UserError(f"{errors[0]}{more}")
    return contents


def open_shard(shard: Path) -> Content:
    """Read a shard's index or, where it has none, its headers.

    Raises:
        UserError: it cannot be read, or is not the shard that its index describes.
    """
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
    return Content(entries, Stamp.of(status), index)


def _described(shards: list[Path], contents: list[Content]) -> list[Opened]:
    """Compare shards with their sets' descriptions, where there are any."""
    listing = lru_cache(maxsize=None)(Listing)
    opened = []
    for shard, (entries, stamp, index) in zip(shards, contents, strict=True):
        listed = listing(shard.with_name(f"{set_name(shard)}.tar"))
        listed.check(shard, stamp.bytes, len(entries), index.sha256 if index else None)
        opened.append(Opened(shard, len(entries), (index.part if index else None) or listed.part(shard)))
    return opened
