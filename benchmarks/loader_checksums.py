"""Measures what verifying checksums costs the loader: each batch is loaded with and without, the order swapped.

``python -m benchmarks.loader_checksums --data_file=voc.tar``; the crops of both are compared. The calling thread
loads, so that its processor time, which other programs disturb less than the clock, is that of the batch.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from deeplab_fast.cli import parse_flags, run
from deeplab_fast.config.flags import flag, validate
from deeplab_fast.data.augment import Augment
from deeplab_fast.data.dataset import BadSamples, Batch, TrainingSet
from deeplab_fast.data.native_loader import NativeLoader
from deeplab_fast.data.records import RecordSource
from deeplab_fast.data.schedule import Schedule
from deeplab_fast.errors import UserError
from deeplab_fast.ops.input.sample_loader import missing

from .agreement import Check, equal
from .report import Timing, environment, write_results

CPU = torch.device("cpu")
WAYS = ("always", "never")


@dataclass(frozen=True, kw_only=True)
class ChecksumsConfig:
    """Checksums"""

    data_file: str = flag("", "Records with checksums: the name given to prepare --dst_path.")
    batch_size: int = flag(32, "Images a batch.", minimum=1)
    crop_size: int = flag(513, "Side of the crops.", minimum=17)
    rounds: int = flag(120, "Batches, each loaded in both ways.", minimum=3)
    out: str = flag("", "Folder for loader_checksums.json and loader_checksums.md.")


def open_loader(source: RecordSource, config: ChecksumsConfig) -> NativeLoader:
    dataset = TrainingSet(source, Augment(config.crop_size, 0.5, 2.0, 255), 256, 1)
    schedule = Schedule(len(source), min(config.batch_size, len(source)), 1)
    return NativeLoader(dataset, schedule, 0, CPU, BadSamples())


def timed(batches: Iterator[Batch]) -> tuple[Batch, float, float]:
    """Take the next batch; return it and what it took: seconds of the clock, and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    batch = next(batches)
    return batch, time.perf_counter() - clock, time.process_time() - processor


def compare(config: ChecksumsConfig) -> tuple[dict[str, dict[str, Timing]], Check]:
    """Measure by ``clock`` and ``processor`` seconds an image of each way, and ``kept``, the rate that is left.

    Every batch of one is compared with the other's.

    Raises:
        UserError: a value differs.
    """
    batches = {
        way: open_loader(RecordSource(config.data_file, verify=way), config).batches(0, config.rounds + 1)
        for way in WAYS
    }
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    compared = differing = 0
    for i in range(config.rounds + 1):
        loaded = {}
        for way in WAYS if i % 2 == 0 else reversed(WAYS):
            loaded[way], clock, processor = timed(batches[way])
            size = len(loaded[way].keys)
            found[way].append((clock / size, processor / size))
        for a, b in zip(loaded["always"][:3], loaded["never"][:3], strict=True):
            compared, differing = compared + a.numel(), differing + int((a != b).sum())
    check = equal("crops with and without verification", differing, compared)
    if check.failed:
        raise UserError(f"{differing} values of {compared} differ with and without verification")
    timings: dict[str, dict[str, Timing]] = {}
    for k, name in enumerate(("clock", "processor")):  # the first batch, which allocates, does not count
        of_way = {way: Timing(tuple(values[k] for values in found[way][1:])) for way in WAYS}
        timings[name] = {**of_way, "kept": of_way["never"].over(of_way["always"])}
    return timings, check


def as_markdown(results: dict[str, Any]) -> str:
    where, config = results["environment"], results["config"]
    lines = [
        f"Loader, checksums verified and not: {results['images']} images, crop {config['crop_size']},"
        f" one thread, {config['rounds']} batches of {config['batch_size']}, each in both ways; median (quartiles):"
        f" {where['device']}, {where['date']}.",
        "",
        "| | verified, us an image | not verified | rate kept, % |",
        "|---|---|---|---|",
    ]
    for clock, timings in results["timings"].items():
        always, never = (1e6 * timings[way]["median"] for way in WAYS)
        kept = timings["kept"]
        spread = f"({100 * kept['q1']:.1f} - {100 * kept['q3']:.1f})"
        lines.append(f"| {clock} | {always:,.0f} | {never:,.0f} | {100 * kept['median']:.1f} {spread} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> int:
    flags = parse_flags(ChecksumsConfig, argv, "benchmarks.loader_checksums", "Measure what verifying checksums costs.")
    config = ChecksumsConfig(**flags)
    validate(config)
    if missing():
        raise UserError(f"no native loader here: {missing()}")
    if not config.data_file:
        raise UserError("--data_file: missing; expected records with checksums")
    timings, check = compare(config)
    results = {
        "environment": environment(CPU),
        "config": {name: value for name, value in asdict(config).items() if name not in ("data_file", "out")},
        "images": len(RecordSource(config.data_file)),
        "checks": [check.as_dict()],
        "timings": {clock: {way: t.summary() for way, t in ways.items()} for clock, ways in timings.items()},
    }
    write_results(config.out, "loader_checksums", results, as_markdown(results))
    return 0


if __name__ == "__main__":
    run(main)
