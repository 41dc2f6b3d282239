"""The index beside each shard: where its samples' bytes lie, and their checksums."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from deeplab_fast.storage.files import raise_if_broken, read_json, write_json

from ..lists import is_text
from ..sources import UNVERIFIED

INDEX_FORMAT = "deeplab_fast.index/2"
OLD_FORMAT = "deeplab_fast.index/1"  # without checksums of samples, and without the set


@dataclass(frozen=True)
class Entry:
    """Ranges of a sample's bytes in its shard, and their CRC-32, or :data:`~deeplab_fast.data.sources.UNVERIFIED`."""

    key: str
    image_offset: int
    image_size: int
    label_offset: int
    label_size: int
    image_crc32: int = UNVERIFIED
    label_crc32: int = UNVERIFIED


@dataclass(frozen=True)
class Part:
    """The part of a set that a shard is: number ``shard`` of ``shards``, which hold ``samples`` together."""

    set: str
    shard: int
    shards: int
    samples: int


@dataclass(frozen=True)
class ShardIndex:
    """The content of one shard. ``class_pixels`` counts the pixels of each label value, 256 entries."""

    bytes: int
    sha256: str
    source: str  # digest of what it was made from; equal means it need not be made again
    class_pixels: list[int]
    part: Part | None = None
    samples: list[Entry] = field(default_factory=list)


class UnreadableIndex(Exception):
    """An index that cannot be read or is not to be trusted; the text says why."""


class OtherShard(UnreadableIndex):
    """An index of a shard of another size."""


def index_path(shard: Path) -> Path:
    return shard.with_suffix(".idx")


def write_index(shard: Path, index: ShardIndex) -> None:
    """Write the index beside a shard, durably."""
    write_json(index_path(shard), {"format": INDEX_FORMAT, **asdict(index)})


def read_index(shard: Path) -> ShardIndex | None:
    """Return the index beside a shard, or None where there is none.

    Raises:
        UnreadableIndex: it is not an index, or names bytes that are not in the shard; says why.
        OtherShard: it is of a shard of another size.
        OSError: there is no such shard.
    """
    size = shard.stat().st_size
    index = read_index_alone(shard)
    if index is not None and index.bytes != size:
        raise OtherShard(f"{size:,} bytes; its index says {index.bytes:,}")
    return index


def read_index_alone(shard: Path) -> ShardIndex | None:
    """Return the index that belongs beside a shard, which need not be there itself; None where there is none.

    Raises:
        UnreadableIndex: it is not an index, or names bytes beyond the size that it gives for the shard; says why.
    """
    try:
        content = read_json(index_path(shard))
        version = content.pop("format")
        if version not in (INDEX_FORMAT, OLD_FORMAT):
            raise UnreadableIndex(f"of an unknown format, {str(version)[:80]!r}")
        index = _index_of(content)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnreadableIndex(error.strerror or str(error)) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UnreadableIndex("not an index") from None
    for entry in index.samples:
        if not fits(entry, index.bytes):
            raise UnreadableIndex(f"names bytes that are not in the shard, for {str(entry.key)[:80]!r}")
    return index


def is_index(path: Path) -> bool:
    """Tell whether a file begins as our indexes do, be it damaged behind that; other tools have ``.idx`` files too.

    Raises:
        UserError: the system cannot read it.
    """
    try:
        with path.open("rb") as file:
            return b'"deeplab_fast.index/' in file.read(200)
    except OSError as error:
        raise_if_broken(path, error)
        return False


def _index_of(content: dict[str, Any]) -> ShardIndex:
    """Raise a ValueError, KeyError or TypeError where ``content``, which may be anything, is no index."""
    if type(content["bytes"]) is not int or not isinstance(content["sha256"], str):
        raise TypeError
    part = content.pop("part", None)
    return ShardIndex(
        **content | {"samples": [Entry(**entry) for entry in content["samples"]]},
        part=None if part is None else _part_of(part),
    )


def _part_of(content: dict[str, Any]) -> Part:
    part = Part(**content)
    counts = (part.shard, part.shards, part.samples)
    if not isinstance(part.set, str) or not is_text(part.set) or not all(type(count) is int for count in counts):
        raise TypeError
    if not 0 <= part.shard < part.shards <= 1 << 20:
        raise ValueError
    return part


def fits(entry: Entry, size: int) -> bool:
    """Tell whether an entry, which may hold anything, names bytes of a shard of this size."""
    ranges = ((entry.image_offset, entry.image_size), (entry.label_offset, entry.label_size))
    checksums = (entry.image_crc32, entry.label_crc32)
    if not isinstance(entry.key, str) or not all(type(value) is int for part in ranges for value in part):
        return False
    if not all(type(checksum) is int and UNVERIFIED <= checksum < 1 << 32 for checksum in checksums):
        return False
    return is_text(entry.key) and all(0 <= at <= at + count <= size for at, count in ranges)
