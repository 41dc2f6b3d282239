"""The index beside each shard: where its samples' bytes lie, and its checksum."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

INDEX_FORMAT = "deeplab_fast.index/1"


@dataclass(frozen=True)
class Entry:
    """Where one sample's bytes lie in its shard."""

    key: str
    image_offset: int
    image_size: int
    label_offset: int
    label_size: int


@dataclass(frozen=True)
class ShardIndex:
    """The content of one shard. ``class_pixels`` counts the pixels of each label value, 256 entries."""

    bytes: int
    sha256: str
    source: str  # digest of what it was made from; equal means it need not be made again
    class_pixels: list[int]
    samples: list[Entry] = field(default_factory=list)


def index_path(shard: Path) -> Path:
    return shard.with_suffix(".idx")


def read_index(shard: Path) -> ShardIndex | None:
    """The index beside a shard, or None where there is none that fits it."""
    try:
        content = json.loads(index_path(shard).read_text())
        size = shard.stat().st_size
        if content.pop("format") != INDEX_FORMAT or content["bytes"] != size:
            return None
        content["samples"] = [Entry(**entry) for entry in content["samples"]]
        index = ShardIndex(**content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return index if all(fits(entry, size) for entry in index.samples) else None


def fits(entry: Entry, size: int) -> bool:
    """Whether an entry, which may hold anything, names bytes of a shard of this size."""
    places = ((entry.image_offset, entry.image_size), (entry.label_offset, entry.label_size))
    if not isinstance(entry.key, str) or not all(type(value) is int for place in places for value in place):
        return False
    return _is_text(entry.key) and all(0 <= at <= at + count <= size for at, count in places)


def _is_text(name: str) -> bool:
    """False for a name that is not Unicode: no file or message could hold it."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def write_json(path: Path, content: Any) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(partial, path)
