"""List files of VOC 2012, or of two folders: ``prepare lists``."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeplab_fast.cli import parse_flags
from deeplab_fast.config import flag, validate
from deeplab_fast.data.given import GivenSplit
from deeplab_fast.data.lists import some_of
from deeplab_fast.data.sources import FileSource, folder_source, names_below
from deeplab_fast.data.split import PARTS, Split, draw_split, given_split, write_split
from deeplab_fast.data.voc import write_lists
from deeplab_fast.errors import UserError
from deeplab_fast.storage.files import check_folder

logger = logging.getLogger("deeplab_fast")

_OWN = ("label_suffix", "split", "group_by", "val_share", "test_share", "seed")  # flags of own data alone
_DRAWN = ("val_share", "test_share", "seed")  # and of those not with --split


@dataclass(frozen=True, kw_only=True)
class ListsConfig:
    """Lists"""

    data_root: str = flag("", "Folder that holds VOCdevkit and, for the augmented list, benchmark_RELEASE; or, with"
                              " --image_dir, that holds both folders. Paths in the lists start from it.")  # fmt: skip
    output: str = flag("", "Folder to write the lists into, and converted labels; default --data_root, of which then"
                           " nothing is changed.")  # fmt: skip
    image_dir: str = flag("", "Own data: folder of images.")
    label_dir: str = flag("", "Own data: folder of PNG labels with the images' names.")
    label_suffix: str = flag("", "Own data: what a label's name has after its image's, such as _mask.")
    split: str = flag("", "Own data: files that name the images of the train, val and test list, with commas between,"
                          " such as train.txt,val.txt; instead of shares.")  # fmt: skip
    group_by: str = flag("", "Own data: never divide a group of samples between lists: those of one folder (folder), or"
                             " a regular expression that finds the group in the image's path.")  # fmt: skip
    val_share: float = flag(0.1, "Own data: share of the samples that goes to the val list.", minimum=0, maximum=0.9)
    test_share: float = flag(0.0, "Own data: share of the samples that goes to a test list.", minimum=0, maximum=0.9)
    seed: int = flag(1, "Own data: of the choice.", minimum=0, maximum=2**31 - 1)


def main(argv: list[str]) -> int:
    """Write list files of VOC or of two folders; return the exit status."""
    flags = parse_flags(ListsConfig, argv, "deeplab_fast.prepare lists", "Convert labels and write list files.")
    config = ListsConfig(**flags)
    validate(config)
    if not config.data_root:
        raise UserError("--data_root: missing; expected the folder that VOCdevkit was unpacked into")
    if config.output:
        check_folder(Path(config.output), f"--output={config.output}")
    if config.image_dir or config.label_dir:
        if not (config.image_dir and config.label_dir):
            raise UserError("--image_dir and --label_dir: expected both of them")
        return _own_lists(config, flags)
    if own := [name for name in _OWN if flags.get(name)]:
        raise UserError(f"--{own[0]}: expected with --image_dir and --label_dir; VOC's lists are its own")
    for result in write_lists(config.data_root, config.output):
        full = "complete" if result.samples == result.expected else f"the full data set has {result.expected:,}"
        print(f"{result.path}: {result.samples:,} samples ({full})")
    if not (Path(config.data_root) / "benchmark_RELEASE").is_dir():
        print(f"no vocaug_train_lst.txt: {config.data_root} has no benchmark_RELEASE (SBD)")
    return 0


def _own_lists(config: ListsConfig, flags: Mapping[str, Any]) -> int:
    files = _split_files(config, flags)
    source = folder_source(config.image_dir, config.label_dir, config.label_suffix)
    names = names_below(source, config.image_dir)
    if files:
        split, read = given_split(files, source, config.image_dir, names, config.group_by)
        _say_unusual(config, split, read, names)
    else:
        split = draw_split(names, config.val_share, config.seed, config.test_share, config.group_by)
    for path, samples in _write(config, source, split).items():
        print(f"{path}: {samples:,} sample{'' if samples == 1 else 's'}")
    return 0


def _write(config: ListsConfig, source: FileSource, split: Split) -> dict[Path, int]:
    made_from = {name: getattr(config, name) for name in ("image_dir", "label_dir", "label_suffix")}
    return write_split(source, split, config.data_root, config.output, **made_from)


def _split_files(config: ListsConfig, flags: Mapping[str, Any]) -> list[str]:
    """Return the files of ``--split``; none without it.

    Raises:
        UserError: it contradicts other flags, or its files are not in the order of the lists.
    """
    if not config.split:
        if config.val_share + config.test_share >= 1:
            raise UserError(
                f"--val_share={config.val_share:g} and --test_share={config.test_share:g}: expected a sum below 1"
            )
        return []
    if drawn := [name for name in _DRAWN if name in flags]:
        raise UserError(f"--split and --{drawn[0]}: expected one of them; a given split is not drawn")
    files = [file.strip() for file in config.split.split(",")]
    if len(files) > len(PARTS) or not all(files):
        raise UserError(f"--split={config.split}: expected one to three files, of the train, val and test samples")
    for part, file in zip(PARTS, files, strict=False):
        if (named := Path(file).stem.lower()) in PARTS and named != part:
            raise UserError(f"--split={config.split}: {file} stands for the {part} list; expected train, val, test")
    return files


def _say_unusual(config: ListsConfig, split: Split, read: list[GivenSplit], names: list[str]) -> None:
    for one in read:
        if one.repeated:
            lines = "1 line repeats another" if one.repeated == 1 else f"{one.repeated:,} lines repeat others"
            logger.info("%s: %s; each sample is listed once", one.file, lines)
    listed = {i for part in split.parts.values() for i in part}
    if left := [name for i, name in enumerate(names) if i not in listed]:
        verb = "is" if len(left) == 1 else "are"
        logger.warning(
            "--split=%s: %s of %s samples %s in no list: %s",
            config.split, f"{len(left):,}", f"{len(names):,}", verb, some_of(left),
        )  # fmt: skip
