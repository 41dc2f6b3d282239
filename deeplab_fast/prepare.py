"""Get data ready for training: ``python -m deeplab_fast.prepare lists|records|check``."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .cli import parse_flags, run
from .config import DecodingConfig, flag, validate
from .data.check import Findings, check_source, suggested_weights
from .data.classes import check_same_classes, class_names, class_numbers, described_flags, read_class_names
from .data.labels import unfit_labels
from .data.records import RecordOptions, RecordSource, dataset_entry, verify_shards, write_records
from .data.sources import FileSource, Source, folder_source, list_source
from .data.split import write_split
from .data.voc import write_lists
from .errors import UserError
from .ops import Decoding

logger = logging.getLogger("deeplab_fast")

USAGE = """usage: python -m deeplab_fast.prepare lists|records|check [--flag=value ...]

  lists    VOC 2012 (+ SBD): labels to grey PNG, and the list files voc_train, voc_val, vocaug_train;
           or two folders of your own: train and val lists
  records  a list file or two folders to tar shards, their index and dataset.json
  check    read every file as training will, and name what would break it

Each takes --help."""
_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class InputConfig:
    """Samples: a list file, or two parallel folders"""

    data_root: str = flag("", "Folder that the paths in --data_lst start from.")
    data_lst: str = flag("", "List file: an image path and a label path on each line.")
    image_dir: str = flag("", "Folder of images, instead of a list.")
    label_dir: str = flag("", "Folder of PNG labels with the images' names.")
    label_suffix: str = flag("", "What a label's name has after its image's, such as _mask: x.jpg and x_mask.png.")


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """Labels"""

    num_classes: int = flag(21, "Classes, background included; default: as the data's classes.txt or dataset.json"
                                " says.", minimum=2, maximum=256)  # fmt: skip
    ignore_label: int = flag(255, "Label value that does not count.", minimum=0, maximum=255)


@dataclass(frozen=True, kw_only=True)
class ListsConfig:
    """Lists"""

    data_root: str = flag("", "Folder that holds VOCdevkit and, for the augmented list, benchmark_RELEASE; or, with"
                              " --image_dir, where to write the lists.")  # fmt: skip
    image_dir: str = flag("", "Own data: folder of images.")
    label_dir: str = flag("", "Own data: folder of PNG labels with the images' names.")
    label_suffix: str = flag("", "Own data: what a label's name has after its image's, such as _mask.")
    val_share: float = flag(0.1, "Own data: share of the samples that goes to the val list.", minimum=0, maximum=0.9)
    seed: int = flag(1, "Own data: of the choice.", minimum=0, maximum=2**31 - 1)


@dataclass(frozen=True, kw_only=True)
class RecordsConfig(LabelConfig, DecodingConfig, InputConfig):
    """Shards"""

    dst_path: str = flag("", "Name of the set: D/voc.tar becomes D/voc-00000.tar, ...")
    num_shards: int = flag(8, "Number of shards.", minimum=1, maximum=99999)
    shuffle: bool = flag(True, "Mix the samples before sharding.")
    seed: int = flag(1, "Of the mixing.", minimum=0, maximum=2**31 - 1)
    classes: str = flag("", "Names with commas between, or a file with one a line; default classes.txt by the list.")


@dataclass(frozen=True, kw_only=True)
class CheckConfig(LabelConfig, DecodingConfig, InputConfig):
    """Check"""

    data_file: str = flag("", "Records to check, instead of files.")
    val_data_lst: str = flag("", "List file that must share no sample with the data.")
    val_data_file: str = flag("", "Records that must share no sample with the data.")
    absent_classes: str = flag("", "Classes that rightly have no pixel: numbers or names with commas between.")
    num_workers: int = flag(2, "Threads that decode; 0 does it in the main thread.", minimum=0, maximum=256)


def open_files(config: InputConfig, must_exist: bool = True) -> FileSource:
    """Open the samples that the flags name; ``must_exist`` as in :func:`list_source`.

    Raises:
        UserError: flags missing or contradictory, or files that are not there.
    """
    if config.image_dir or config.label_dir:
        if config.data_lst:
            raise UserError("--image_dir and --data_lst: expected one of them, not both")
        if not (config.image_dir and config.label_dir):
            raise UserError("--image_dir and --label_dir: expected both of them")
        return folder_source(config.image_dir, config.label_dir, config.label_suffix)
    if config.label_suffix:
        raise UserError("--label_suffix: expected with --image_dir and --label_dir; a list names each label itself")
    if not config.data_lst:
        raise UserError("--data_lst: missing; give --data_root and --data_lst, or --image_dir and --label_dir")
    if not config.data_root:
        raise UserError("--data_root: missing; expected the folder that the paths in --data_lst start from")
    return list_source(config.data_root, config.data_lst, must_exist)


def lists(argv: list[str]) -> int:
    """Write list files of VOC or of two folders; return the exit status."""
    config = ListsConfig(
        **parse_flags(ListsConfig, argv, "deeplab_fast.prepare lists", "Convert labels and write list files.")
    )
    validate(config)
    if not config.data_root:
        raise UserError("--data_root: missing; expected the folder that VOCdevkit was unpacked into")
    if config.image_dir or config.label_dir:
        if not (config.image_dir and config.label_dir):
            raise UserError("--image_dir and --label_dir: expected both of them")
        return _own_lists(config)
    for result in write_lists(config.data_root):
        full = "complete" if result.samples == result.expected else f"the full data set has {result.expected:,}"
        print(f"{result.path}: {result.samples:,} samples ({full})")
    if not (Path(config.data_root) / "benchmark_RELEASE").is_dir():
        print(f"no vocaug_train_lst.txt: {config.data_root} has no benchmark_RELEASE (SBD)")
    return 0


def _own_lists(config: ListsConfig) -> int:
    source = folder_source(config.image_dir, config.label_dir, config.label_suffix)
    for path, samples in write_split(source, config.data_root, config.val_share, config.seed).items():
        print(f"{path}: {samples:,} sample{'' if samples == 1 else 's'}")
    return 0


def records(argv: list[str]) -> int:
    """Pack samples into tar shards; return the exit status."""
    flags = parse_flags(RecordsConfig, argv, "deeplab_fast.prepare records", "Pack samples into tar shards.")
    config = RecordsConfig(**flags)
    validate(config)
    if not config.dst_path:
        raise UserError("--dst_path: missing; expected a name such as data/voc.tar")
    source = open_files(config)
    config, names = _with_names(config, flags)
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


def _unfit(shards: list[Path], config: RecordsConfig) -> str | None:
    """Return why the labels written are of no use for training; None where they are."""
    entry = dataset_entry(shards)
    if entry is None:
        return None
    pixels = np.zeros(256, np.int64)
    pixels[: config.num_classes] = entry["class_pixels"]
    pixels[config.ignore_label] = entry["ignored_pixels"]
    return unfit_labels(pixels, config.num_classes, config.ignore_label)


def _root(config: InputConfig) -> str:
    """Return the folder where ``classes.txt`` may be: the data's root, or the one above that of the images."""
    return config.data_root or (str(Path(config.image_dir).parent) if config.image_dir else "")


def _with_names(config: RecordsConfig, flags: dict[str, Any]) -> tuple[RecordsConfig, list[str]]:
    """Return the class names, of ``--classes`` or of the data, and the configuration with their number."""
    if not config.classes:
        found = described_flags(flags, data_lst=config.data_lst, data_root=_root(config))
        config = replace(config, **found)
        validate(config)
        return config, class_names(config.num_classes, data_lst=config.data_lst, data_root=_root(config))
    path = Path(config.classes)
    names = read_class_names(path) if path.is_file() else [n for n in map(str.strip, config.classes.split(",")) if n]
    if len(names) != flags.get("num_classes", len(names)):
        raise UserError(f"--classes: {len(names)} names; expected {config.num_classes} (--num_classes)")
    config = replace(config, num_classes=len(names))
    validate(config)
    return config, names


def check(argv: list[str]) -> int:
    """Read every file as training will, and print what was found; return the exit status."""
    flags = parse_flags(CheckConfig, argv, "deeplab_fast.prepare check", "Read every file as training will.")
    config = CheckConfig(**flags)
    validate(config)
    source: Source = RecordSource(config.data_file) if config.data_file else open_files(config, must_exist=False)
    held_out: Source | None = None
    if config.val_data_file:
        held_out = RecordSource(config.val_data_file, "val_data_file")
    elif config.val_data_lst:
        held_out = list_source(config.data_root, config.val_data_lst, must_exist=False)
    config = replace(config, **described_flags(flags, config.data_file, config.data_lst, _root(config)))
    validate(config)
    names = class_names(config.num_classes, config.data_file, config.data_lst, _root(config))
    if held_out is not None:
        check_same_classes(names, config.val_data_file, config.val_data_lst, config.data_root)
    absent = class_numbers(config.absent_classes, names, "absent_classes")
    findings = check_source(
        source, config.num_classes, config.ignore_label, config.num_workers, held_out, absent, Decoding.of(config)
    )
    findings.problems[:0] = [*verify_shards(source), *verify_shards(held_out)]
    print(_as_text(findings, names, config.num_classes, config.ignore_label))
    for problem in findings.problems[:_SHOWN]:
        print(f"problem: {problem}")
    if len(findings.problems) > _SHOWN:
        print(f"... and {len(findings.problems) - _SHOWN} more")
    if findings.problems:
        count = len(findings.problems)
        plural = "" if count == 1 else "s"
        samples = findings.samples + findings.held_out
        raise UserError(f"{count} problem{plural} in {samples} samples would break training")
    return 0


def _as_text(findings: Findings, names: list[str], num_classes: int, ignore_label: int) -> str:
    total = max(1, int(findings.pixels.sum()))
    width = max(len(name) for name in [*names, "ignored"])
    lines = [
        f"{name:<{width}} {findings.pixels[i]:>14,} pixels {findings.pixels[i] / total:7.2%}"
        for i, name in enumerate(names)
    ]
    if ignore_label >= num_classes:
        ignored = findings.pixels[ignore_label]
        lines.append(f"{'ignored':<{width}} {ignored:>14,} pixels {ignored / total:7.2%}")
    if findings.sizes:
        heights, widths = zip(*findings.sizes, strict=True)
        lines.append(f"sizes: {min(widths)} to {max(widths)} wide, {min(heights)} to {max(heights)} high")
    counts = np.where(np.arange(num_classes) == ignore_label, 0, findings.pixels[:num_classes])
    lines.append(f"--class_weights={','.join(f'{w:g}' for w in suggested_weights(counts))}")
    lines.append("  (median frequency of the classes present over each class's own, at most 10)")
    for index, name in enumerate(names):
        if findings.samples and not findings.pixels[index] and index != ignore_label:
            lines.append(f"note: {name} has no pixel")
    lines += [f"note: {note}" for note in findings.notes]
    return "\n".join(lines)


COMMANDS = {"lists": lists, "records": records, "check": check}


def main(argv: list[str]) -> int:
    """Run the command that the first argument names; return the exit status."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    if argv[0] not in COMMANDS:
        raise UserError(f"prepare {argv[0]}: unknown; expected one of {', '.join(COMMANDS)}")
    return COMMANDS[argv[0]](argv[1:])


if __name__ == "__main__":
    run(main)
