"""Measures what verifying checksums costs the loader: each batch is loaded with and without, the order swapped.

``python -m benchmarks.run loader_checksums --data_file=voc.tar``; the crops of both are compared. The calling thread
loads, so that its processor time, which other programs disturb less than the clock, is that of the batch.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from deeplab_fast.cli import run
from deeplab_fast.config.flags import flag
from deeplab_fast.data.dataset import BadSamples, Batch
from deeplab_fast.data.native_loader import NativeLoader
from deeplab_fast.data.records import RecordSource
from deeplab_fast.data.schedule import Schedule
from deeplab_fast.errors import UserError
from deeplab_fast.runtime.environment import environment

from .agreement import Check, equal, require
from .loader import need_native_loader, training_set
from .report import as_table, as_text, configure, publish, spread
from .timing import Timing, take_turns

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
    schedule = Schedule(len(source), min(config.batch_size, len(source)), 1)
    return NativeLoader(training_set(source, config.crop_size), schedule, 0, CPU, BadSamples())


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
    loaded: list[Batch] = []
    compared = differing = 0

    def measure(step: Callable[[], Batch]) -> tuple[float, float]:
        nonlocal compared, differing
        clock, processor = time.perf_counter(), time.process_time()
        batch = step()
        clock, processor = time.perf_counter() - clock, time.process_time() - processor
        loaded.append(batch)
        if len(loaded) == len(WAYS):
            for a, b in zip(loaded[0][:3], loaded[1][:3], strict=True):
                compared, differing = compared + a.numel(), differing + int((a != b).sum())
            loaded.clear()
        return clock / len(batch.keys), processor / len(batch.keys)

    steps = {way: partial(next, batches[way]) for way in WAYS}
    found = take_turns(steps, config.rounds, 1, measure)  # the first batch, which allocates, does not count
    check = equal("crops with and without verification", differing, compared)
    require(check, f"{differing} values of {compared} differ with and without verification")
    timings: dict[str, dict[str, Timing]] = {}
    for k, name in enumerate(("clock", "processor")):
        of_way = {way: Timing(tuple(values[k] for values in found[way])) for way in WAYS}
        timings[name] = {**of_way, "kept": of_way["never"].over(of_way["always"])}
    return timings, check


def as_markdown(results: dict[str, Any]) -> str:
    where, config = results["environment"], results["config"]
    title = (
        f"Loader, checksums verified and not: {results['images']} images, crop {config['crop_size']},"
        f" one thread, {config['rounds']} batches of {config['batch_size']}, each in both ways; median (quartiles):"
        f" {where['device']}, {where['date']}."
    )
    rows = []
    for clock, timings in results["timings"].items():
        always, never = (f"{1e6 * timings[way]['median']:,.0f}" for way in WAYS)
        kept = {name: 100 * value for name, value in timings["kept"].items()}
        rows.append((clock, always, never, spread(kept, 1)))
    return as_text(title, as_table(" | verified, us an image | not verified | rate kept, %", rows))


def main(argv: list[str]) -> int:
    config = configure(ChecksumsConfig, argv, "loader_checksums")
    need_native_loader()
    if not config.data_file:
        raise UserError("--data_file: missing; expected records with checksums")
    timings, check = compare(config)
    results = {
        "images": len(RecordSource(config.data_file)),
        "checks": [check.as_dict()],
        "timings": {clock: {way: t.summary() for way, t in ways.items()} for clock, ways in timings.items()},
    }
    return publish("loader_checksums", config, environment(CPU), results, as_markdown)


if __name__ == "__main__":
    run(main)
