"""Samples packed into tar shards: ``prepare records``."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_fast.cli import parse_flags
from deeplab_fast.config import DecodingConfig, flag, validate
from deeplab_fast.data.classes import class_names, described_flags, listed_names
from deeplab_fast.data.labels import unfit_labels
from deeplab_fast.data.records import RecordOptions, dataset_entry, set_name, write_records
from deeplab_fast.data.remote import RecordCache, Records, find_records
from deeplab_fast.data.sources import Source
from deeplab_fast.errors import UserError
from deeplab_fast.ops import Decoding

from .inputs import InputConfig, LabelConfig, open_samples, root_of_names

logger = logging.getLogger("deeplab_fast")


@dataclass(frozen=True, kw_only=True)
class RecordsConfig(LabelConfig, DecodingConfig, InputConfig):
    """Shards"""

    dst_path: str = flag("", "Name of the set: D/voc.tar becomes D/voc-00000.tar, ...")
    num_shards: int = flag(8, "Number of shards.", minimum=1, maximum=99999)
    shuffle: bool = flag(True, "Mix the samples before sharding.")
    seed: int = flag(1, "Of the mixing.", minimum=0, maximum=2**31 - 1)
    classes: str = flag("", "Names with commas between, or a file with one a line; default classes.txt by the list.")


def main(argv: list[str]) -> int:
    """Pack samples into tar shards; return the exit status."""
    flags = parse_flags(RecordsConfig, argv, "deeplab_fast.prepare records", "Pack samples into tar shards.")
    config = RecordsConfig(**flags)
    validate(config)
    if not config.dst_path:
        raise UserError("--dst_path: missing; expected a name such as data/voc.tar")
    data_file = find_records(config.data_file, RecordCache.of(config))
    source = open_samples(config, data_file)
    _refuse_own_shards(source, config)
    config, names = _with_names(config, flags, data_file)
    shards = config.num_shards
    if "num_shards" not in flags:  # the default gives way to a small set
        shards = min(shards, len(source))
    options = RecordOptions(
        shards, config.shuffle, config.seed, config.num_classes, config.ignore_label, tuple(names), Decoding.of(config)
    )
    paths = write_records(source, config.dst_path, options)
    print(f"{len(source):,} samples in {len(paths)} shards: {paths[0]} ... {paths[-1].name}")
    if unfit := _unfit(paths, config):
        logger.warning("%s", unfit)
    return 0


def _refuse_own_shards(source: Source, config: RecordsConfig) -> None:
    """Refuse to write a set of shards while it is read."""
    target = Path(config.dst_path)
    own = [path for path in map(Path, source.files()) if path.suffix == ".tar" and set_name(path) == target.stem]
    if any(path.parent.resolve() == target.parent.resolve() for path in own):
        raise UserError(f"--dst_path={target}: is the set that --data_file names; expected another name")


def _unfit(shards: list[Path], config: RecordsConfig) -> str | None:
    """Return why the labels written are of no use for training; None where they are."""
    entry = dataset_entry(shards)
    if entry is None:
        return None
    pixels = np.zeros(256, np.int64)
    pixels[: config.num_classes] = entry["class_pixels"]
    pixels[config.ignore_label] = entry["ignored_pixels"]
    return unfit_labels(pixels, config.num_classes, config.ignore_label)


def _with_names(config: RecordsConfig, flags: dict[str, Any], data_file: Records) -> tuple[RecordsConfig, list[str]]:
    """Return the class names, of ``--classes`` or of the data, and the configuration with their number."""
    if not config.classes:
        found = described_flags(flags, data_file, config.data_lst, root_of_names(config))
        config = replace(config, **found)
        validate(config)
        return config, class_names(config.num_classes, data_file, config.data_lst, root_of_names(config))
    names = listed_names(config.classes)
    if len(names) != flags.get("num_classes", len(names)):
        raise UserError(f"--classes: {len(names)} names; expected {config.num_classes} (--num_classes)")
    config = replace(config, num_classes=len(names))
    validate(config)
    return config, names
