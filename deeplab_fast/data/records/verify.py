"""A check that shards are, to the bit, what their indexes say."""

import hashlib
import zlib
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from deeplab_fast.errors import UserError

from ..sources import UNVERIFIED, Source
from .index import Entry, ShardIndex
from .read import RecordSource
from .scan import scan


def verify_shards(source: Source | None) -> list[str]:
    """Read all of every shard that has an index; return what is wrong, a line for each shard. Files have none."""
    if not isinstance(source, RecordSource):
        return []
    source.require(range(len(source)))
    problems = []
    pairs = list(zip(source.shards, source.indexes, strict=True))
    for shard, index in tqdm(pairs, desc="verify", unit="shard", disable=None):
        if index is not None and (damage := find_damage(shard, index)):
            problems.append(f"{shard}: {damage}; run prepare records again")
    return problems


def find_damage(shard: Path, index: ShardIndex) -> str:
    """Return how a shard differs from its index, or nothing.

    Raises:
        UserError: it cannot be read.
    """
    try:
        if (size := shard.stat().st_size) != index.bytes:
            return f"{size:,} bytes; its index says {index.bytes:,}"
        if sha256_of(shard) != index.sha256:
            return "its SHA-256 is not the one in its index: damaged, or replaced since"
        if [_unsummed(entry) for entry in scan(shard)] != [_unsummed(entry) for entry in index.samples]:
            return "its index names other samples than its headers"
        summed = checksums(shard, index.samples)
    except OSError as error:
        raise UserError(f"{shard}: {error.strerror}") from None
    if any(UNVERIFIED != b != a for e, f in zip(summed, index.samples, strict=True) for a, b in _sums(e, f)):
        return "its index holds other checksums than its samples have"
    return ""


def _sums(found: Entry, indexed: Entry) -> tuple[tuple[int, int], tuple[int, int]]:
    return (found.image_crc32, indexed.image_crc32), (found.label_crc32, indexed.label_crc32)


def _unsummed(entry: Entry) -> Entry:
    return replace(entry, image_crc32=0, label_crc32=0)


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file, as hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def checksums(shard: Path, entries: list[Entry]) -> list[Entry]:
    """Return the entries with the checksums of the bytes that they name."""
    with shard.open("rb") as file:

        def crc32(offset: int, size: int) -> int:
            file.seek(offset)
            return zlib.crc32(file.read(size))

        return [
            replace(
                entry,
                image_crc32=crc32(entry.image_offset, entry.image_size),
                label_crc32=crc32(entry.label_offset, entry.label_size),
            )
            for entry in entries
        ]
