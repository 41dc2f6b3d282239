"""``dataset.json``: classes, ignore label, counts and checksums of every set in the folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_fast.errors import UserError
from deeplab_fast.ops import DEFAULT_DECODING, Decoding
from deeplab_fast.storage.files import read_json, write_json
from deeplab_fast.storage.locks import lock_folder

from .index import Part, ShardIndex
from .names import set_name

DATASET_FORMAT = "deeplab_fast.dataset/1"
DATASET_FILE = "dataset.json"


@dataclass(frozen=True)
class RecordOptions:
    """Options that a set is written with; stored in ``dataset.json``."""

    num_shards: int
    shuffle: bool
    seed: int
    num_classes: int
    ignore_label: int
    classes: tuple[str, ...]
    decoding: Decoding = DEFAULT_DECODING


def describe(dst: Path, paths: list[Path], indexes: list[ShardIndex], options: RecordOptions) -> None:
    """Write the description of a set into its folder's ``dataset.json``, beside the other sets."""
    file = dst.with_name(DATASET_FILE)
    totals = np.sum([index.class_pixels for index in indexes], axis=0)
    entry = {
        "classes": list(options.classes),
        "num_classes": options.num_classes,
        "ignore_label": options.ignore_label,
        "samples": sum(len(index.samples) for index in indexes),
        "class_pixels": [int(v) for v in totals[: options.num_classes]],
        "ignored_pixels": int(totals[options.ignore_label]),
        "shuffle": options.shuffle,
        "seed": options.seed,
        "shards": [
            {"file": path.name, "samples": len(index.samples), "bytes": index.bytes, "sha256": index.sha256}
            for path, index in zip(paths, indexes, strict=True)
        ],
    }
    with lock_folder(file.parent):  # against another set's, written at the same time
        content: dict[str, Any] = {"format": DATASET_FORMAT, "sets": {}}
        if file.exists():
            content = read_dataset(file)
        content["sets"][dst.stem] = entry
        write_json(file, content)


def read_dataset(file: Path) -> dict[str, Any]:
    """Return what ``dataset.json`` holds: ``sets`` by their names.

    Raises:
        UserError: it is not a description of data sets.
    """
    try:
        content = read_json(file)
        if content["format"] != DATASET_FORMAT or not isinstance(content["sets"], dict):
            raise ValueError("unknown format")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file}: not a dataset description ({error}); move it away, then make its records anew if it was ours"
        ) from None
    return dict(content)


def dataset_entry(shards: Sequence[Path]) -> dict[str, Any] | None:
    """Return what ``dataset.json`` says of the set that these shards belong to, or None."""
    file = shards[0].with_name(DATASET_FILE)
    if not file.is_file():
        return None
    return read_dataset(file)["sets"].get(set_name(shards[0]))


class Listing:
    """The shards that ``dataset.json`` lists of the set ``D/voc.tar``: none where it does not list the set.

    Raises:
        UserError: the shards of the set have no names.
    """

    def __init__(self, name: Path) -> None:
        file = name.with_name(DATASET_FILE)
        entry = read_dataset(file)["sets"].get(name.stem) if file.is_file() else None
        try:
            shards = [] if entry is None else [dict(shard) for shard in entry["shards"]]
            self.paths = [name.with_name(shard["file"]) for shard in shards]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{file}: the shards of {name.stem} are not named; run prepare records again") from None
        self._shards = dict(zip((path.name for path in self.paths), shards, strict=True))
        self._numbers = {path.name: number for number, path in enumerate(self.paths)}
        counts: list[Any] = [shard.get("samples") for shard in shards]
        self._samples = sum(counts) if all(type(count) is int for count in counts) else None

    def check(self, shard: Path, size: int, samples: int, sha256: str | None) -> None:
        """Compare a shard's bytes, samples and the SHA-256 of its index (if any) with what is listed (if anything).

        Raises:
            UserError: it is another shard than the one that was described.
        """
        listed = self._shards.get(shard.name, {})
        for what, found in (("bytes", size), ("samples", samples), ("sha256", sha256)):
            if found is not None and what in listed and listed[what] != found:
                raise UserError(
                    f"{shard}: not the shard that {DATASET_FILE} describes ({what} {found}; expected"
                    f" {str(listed[what])[:80]}). Run prepare records again"
                )

    def published(self, shard: Path) -> tuple[int | None, str]:
        """Return a shard's bytes and SHA-256 as listed: None and nothing where they are not."""
        listed = self._shards.get(shard.name, {})
        size, sha256 = listed.get("bytes"), listed.get("sha256")
        return size if type(size) is int else None, sha256 if isinstance(sha256, str) else ""

    def part(self, shard: Path) -> Part | None:
        """Tell which part of the set a shard is, or None where that is not listed."""
        number = self._numbers.get(shard.name)
        if number is None or self._samples is None:
            return None
        return Part(set_name(shard), number, len(self.paths), self._samples)
