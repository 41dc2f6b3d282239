"""``dataset.json``: classes, ignore label, counts and checksums of every set in the folder."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_fast.errors import UserError

from .index import ShardIndex, write_json

DATASET_FORMAT = "deeplab_fast.dataset/1"
DATASET_FILE = "dataset.json"


@dataclass(frozen=True)
class RecordOptions:
    """How a set is written; stored in ``dataset.json``."""

    num_shards: int
    shuffle: bool
    seed: int
    num_classes: int
    ignore_label: int
    classes: tuple[str, ...]


def describe(dst: Path, paths: list[Path], indexes: list[ShardIndex], options: RecordOptions) -> None:
    file = dst.with_name(DATASET_FILE)
    content: dict[str, Any] = {"format": DATASET_FORMAT, "sets": {}}
    if file.exists():
        content = read_dataset(file)
    totals = np.sum([index.class_pixels for index in indexes], axis=0)
    content["sets"][dst.stem] = {
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
    write_json(file, content)


def read_dataset(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
        if content["format"] != DATASET_FORMAT or not isinstance(content["sets"], dict):
            raise ValueError("unknown format")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{file}: not a dataset description ({error}); run prepare records again") from None
    return dict(content)


def dataset_entry(shards: Sequence[Path]) -> dict[str, Any] | None:
    """What ``dataset.json`` says of the set that these shards belong to, or None."""
    file = shards[0].with_name(DATASET_FILE)
    if not file.is_file():
        return None
    stem = re.sub(r"-\d{5}$", "", shards[0].stem)
    return read_dataset(file)["sets"].get(stem)
