"""The names of shards: ``SET-NUMBER.tar``, the number of any width."""

import re
from collections.abc import Iterable
from pathlib import Path

_NUMBERED = re.compile(r"(.+)-([0-9]+)", re.DOTALL)


def shard_path(dst: Path, number: int) -> Path:
    """Return the name of a shard of the set ``dst``: ``D/voc-00000.tar`` of ``D/voc.tar``."""
    return dst.with_name(f"{dst.stem}-{number:05d}.tar")


def set_name(shard: Path) -> str:
    """Return the name of the set that a shard belongs to; its own where it has no number."""
    match = _NUMBERED.fullmatch(shard.stem)
    return match[1] if match else shard.stem


def number_of(shard: Path) -> int | None:
    """Return a shard's number in its set, or None where its name has none."""
    match = _NUMBERED.fullmatch(shard.stem)
    return int(match[2]) if match else None


def in_order(shards: Iterable[Path]) -> list[Path]:
    """Sort by folder, set and number: 2 comes before 10, and 00002 before 000010."""
    return sorted(shards, key=lambda shard: (shard.parent, set_name(shard), number_of(shard) or 0, shard.name))


def like(shard: Path, number: int) -> str:
    """Return the file name of another shard of the set, its number as wide as in ``shard``."""
    match = _NUMBERED.fullmatch(shard.stem)
    return f"{match[1]}-{number:0{len(match[2])}d}.tar" if match else f"{shard.stem}-{number:05d}.tar"
