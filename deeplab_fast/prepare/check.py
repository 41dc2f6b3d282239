"""A reading of every file as training will: ``prepare check``."""

from dataclasses import dataclass, replace

import numpy as np

from deeplab_fast.cli import parse_flags
from deeplab_fast.config import DecodingConfig, flag, validate
from deeplab_fast.data.check import Findings, check_source, suggested_weights
from deeplab_fast.data.classes import check_same_classes, class_names, class_numbers, described_flags
from deeplab_fast.data.open_records import open_records
from deeplab_fast.data.records import verify_shards
from deeplab_fast.data.remote import RecordCache, find_records
from deeplab_fast.data.sources import Source, list_source
from deeplab_fast.errors import UserError
from deeplab_fast.ops import Decoding

from .inputs import InputConfig, LabelConfig, open_samples, root_of_names

_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class CheckConfig(LabelConfig, DecodingConfig, InputConfig):
    """Check"""

    val_data_lst: str = flag("", "List file that must share no sample with the data.")
    val_data_file: str = flag("", "Records that must share no sample with the data.")
    absent_classes: str = flag("", "Classes that rightly have no pixel: numbers or names with commas between.")
    num_workers: int = flag(2, "Threads that decode; 0 does it in the main thread.", minimum=0, maximum=256)


def main(argv: list[str]) -> int:
    """Read every file as training will, and print what was found; return the exit status."""
    flags = parse_flags(CheckConfig, argv, "deeplab_fast.prepare check", "Read every file as training will.")
    config = CheckConfig(**flags)
    validate(config)
    cache = RecordCache.of(config)
    data_file = find_records(config.data_file, cache)
    source: Source = open_samples(config, data_file, must_exist=False)
    held_out: Source | None = None
    val_data_file = find_records(config.val_data_file, cache, "val_data_file")
    if val_data_file:
        held_out = open_records(val_data_file, "val_data_file")
    elif config.val_data_lst:
        held_out = list_source(config.data_root, config.val_data_lst, must_exist=False)
    described = described_flags(flags, data_file, config.data_lst, root_of_names(config))
    config = replace(config, **described)
    validate(config)
    names = class_names(config.num_classes, data_file, config.data_lst, root_of_names(config))
    if held_out is not None:
        check_same_classes(names, val_data_file, config.val_data_lst, config.data_root)
    absent = class_numbers(config.absent_classes, names, "absent_classes")
    findings = check_source(
        source, config.num_classes, config.ignore_label, config.num_workers, held_out, absent, Decoding.of(config)
    )
    findings.problems[:0] = [*verify_shards(source), *verify_shards(held_out)]
    print(_as_text(findings, names, config.num_classes, config.ignore_label))
    if "num_classes" not in {**flags, **described} and (found := _classes_found(findings, config)) < config.num_classes:
        print(
            f"labels hold 0 to {found - 1}, and nothing says how many classes there are: if these are all,"
            f" --num_classes={found}, or their names in classes.txt"
        )
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


def _classes_found(findings: Findings, config: CheckConfig) -> int:
    """Return one more than the largest class that has a pixel."""
    present = np.flatnonzero(findings.pixels[: config.num_classes])
    return int(present[-1]) + 1 if len(present) else config.num_classes


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
