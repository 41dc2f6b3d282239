"""Encoded bytes to crops on one core: ours beside the recipe's, torchvision's and albumentations'.

``python -m benchmarks.run pipeline --data_root=VOC2012 --data_lst=list.txt`` prints a table and, with ``--out``,
writes JSON and markdown. A round takes every image once through every pipeline, in turn and every second
time in reverse order. Everything runs in one process held to one core, but the last line: two threads on two.
"""

import io
import itertools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from deeplab_fast.cli import run
from deeplab_fast.config.flags import flag
from deeplab_fast.data.dataset import BadSamples, Batch
from deeplab_fast.data.native_loader import NativeLoader
from deeplab_fast.data.records import RecordOptions, RecordSource, write_records
from deeplab_fast.data.reference_loader import ReferenceLoader
from deeplab_fast.data.schedule import Schedule
from deeplab_fast.data.sources import FileSource, Sample, Source, list_source
from deeplab_fast.data.synthetic import builtin_data
from deeplab_fast.errors import UserError
from deeplab_fast.ops import extension, normalise
from deeplab_fast.runtime.environment import environment

from .agreement import Check, require, same
from .cases.data_peers import CROP, IGNORE, MEAN_RGB, PEERS, STD_RGB, Pipeline
from .loader import need_native_loader, open_source, training_set
from .report import as_table, as_text, configure, publish, spread, times
from .timing import Timing, interleave

BATCH = 8
CLASSES = 256  # any label will do
ENDINGS = ("uint8", "normalised")
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """Pipeline"""

    data_root: str = flag("", "Folder that the paths in --data_lst start from; default the built-in data set.")
    data_lst: str = flag("", "List file: an image path and a label path on each line.")
    images: int = flag(0, "Only the first so many images; 0: all.", minimum=0)
    rounds: int = flag(7, "Timed passes over the images.", minimum=4)
    out: str = flag("", "Folder for pipeline.json and pipeline.md.")


@contextmanager
def held_to(cores: int) -> Iterator[None]:
    """This process on so many cores, and libraries with one thread each.

    Raises:
        UserError: there are not so many.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise UserError("this system cannot hold a process to a core; expected Linux")
    before, threads = os.sched_getaffinity(0), torch.get_num_threads()
    if len(before) < cores:
        raise UserError(f"this process may use {len(before)} core; expected {cores}")
    os.sched_setaffinity(0, set(sorted(before)[:cores]))
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
        torch.set_num_threads(threads)


def finish(batch: Batch, normalised: bool) -> None:
    if normalised:
        # To NCHW in memory, as the peers end; training itself stays channels-last.
        normalise(batch.images, batch.extents, MEAN_RGB, STD_RGB, torch.float32).contiguous()


def ours(source: Source, bicubic: bool, normalised: bool) -> Callable[[], None]:
    """A pass over the data through the native loader, in the caller's thread.

    The loader is made once, before the timing, as the peers' pipelines are; it works only when a batch is asked for.
    """
    schedule = Schedule(len(source), BATCH, 1)
    loader = NativeLoader(training_set(source, bicubic=bicubic), schedule, 0, CPU, BadSamples())
    batches = loader.batches(0, sys.maxsize)

    def run_once() -> None:
        for batch in itertools.islice(batches, schedule.batches_per_epoch):
            finish(batch, normalised)

    return run_once


def by_threads(source: Source, threads: int) -> Callable[[], None]:
    """A pass by threads, which a loader of their own starts and ends: between passes they must not work ahead."""

    def run_once() -> None:
        schedule = Schedule(len(source), BATCH, 1)
        loader = NativeLoader(training_set(source), schedule, threads, CPU, BadSamples())
        for batch in loader.batches(0, schedule.batches_per_epoch):
            finish(batch, False)

    return run_once


def peer(samples: list[Sample], pipeline: Pipeline) -> Callable[[], None]:
    """A pass over the data through another pipeline."""

    def run_once() -> None:
        for sample in samples:
            pipeline(sample.image, sample.label)

    return run_once


def grey(label: bytes) -> bytes:
    """A palette label as a grey PNG, which every peer reads as classes."""
    buffer = io.BytesIO()
    Image.fromarray(np.array(Image.open(io.BytesIO(label)))).save(buffer, "PNG")
    return buffer.getvalue()


def crop_checks(source: Source) -> list[Check]:
    """Compare our crops of a batch by each interpolation with the reference's, byte by byte.

    That the reference is the recipe's OpenCV pipeline is what ``tests/data/test_augment.py`` shows.

    Raises:
        UserError: a byte differs.
    """
    schedule, checks = Schedule(len(source), BATCH, 1), []
    for bicubic in (True, False):
        dataset = training_set(source, bicubic=bicubic)
        found = NativeLoader(dataset, schedule, 2, CPU, BadSamples()).batches(0, 1)
        expected = ReferenceLoader(dataset, schedule, 0, BadSamples()).batches(0, 1)
        pairs = [(x, y) for a, b in zip(found, expected, strict=True) for x, y in zip(a[:3], b[:3], strict=True)]
        what = f"{'bicubic' if bicubic else 'bilinear'} crops of a batch, against the reference's"
        check = same(what, pairs)
        checks.append(require(check, f"{check.found} values of our crops are not the reference's"))
    return checks


def measure(files: FileSource, rounds: int) -> tuple[dict[str, dict[str, Timing]], list[Check]]:
    """Measure seconds an image of pipelines that end in a uint8 crop, and of those that end in normalised floats.

    Returns them, and what was checked before.

    All begin with bytes in memory: the peers' in Python's, ours in the system's cache of a record.
    """
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / "samples.tar"
        write_records(files, packed, RecordOptions(1, False, 1, CLASSES, IGNORE, ()))
        return _measure(files, RecordSource(packed), rounds)


def _measure(files: FileSource, source: RecordSource, rounds: int) -> tuple[dict[str, dict[str, Timing]], list[Check]]:
    if len(source) < BATCH:
        raise UserError(f"{len(source)} images; expected at least {BATCH}")
    checks = crop_checks(source)
    used = len(source) // BATCH * BATCH  # what a pass of ours takes
    samples = [files.read(i) for i in range(used)]
    samples = [sample._replace(label=grey(sample.label)) for sample in samples]
    runs: dict[tuple[str, str], Callable[[], None]] = {}
    for ending in ENDINGS:
        is_normalised = ending == "normalised"
        runs |= {(name, ending): peer(samples, make(is_normalised, 1)) for name, make in PEERS.items()}
        runs["ours, bicubic", ending] = ours(source, True, is_normalised)
        runs["ours, bilinear", ending] = ours(source, False, is_normalised)
    with held_to(1):
        timings = interleave(runs, rounds, 1, CPU)
    found: dict[str, dict[str, Timing]] = {ending: {} for ending in ENDINGS}
    for (name, ending), t in timings.items():
        found[ending][name] = t.per(used)
    with held_to(2):
        counts = {f"{threads} threads": by_threads(source, threads) for threads in (1, 2)}
        threaded = interleave(counts, 3 * rounds, 2, CPU)  # short, and the other core is not ours alone
    found["threads"] = {name: t.per(used) for name, t in threaded.items()}
    return found, checks


# What each peer is compared with: the same interpolation.
RIVALS = {
    "recipe (OpenCV, bicubic)": "ours, bicubic",
    "torchvision v2, Pillow images": "ours, bilinear",
    "torchvision v2, tensors": "ours, bilinear",
    "albumentations (OpenCV, bilinear)": "ours, bilinear",
    "OpenCV decoding alone": "ours, bicubic",
}


def ratios(timings: dict[str, dict[str, Timing]]) -> dict[str, dict[str, Timing]]:
    """Each peer's time over ours in the same round.

    ``uint8`` and ``normalised``: both end alike. ``as used``: the peer normalises on the CPU, as its users let it,
    and ours ends in the uint8 crop that is normalised on the device.
    """
    pairs = {
        "uint8": ("uint8", "uint8"),
        "normalised": ("normalised", "normalised"),
        "as used": ("normalised", "uint8"),
    }
    return {
        kind: {name: timings[theirs][name].over(timings[our][rival]) for name, rival in RIVALS.items()}
        for kind, (theirs, our) in pairs.items()
    }


def as_markdown(results: dict[str, Any]) -> str:
    where = results["environment"]
    title = (
        f"Decode, scale 0.5-2, crop {CROP} and flip of image and label, {results['images']} images, one core of"
        f" {where['device']}, {results['vector_extension']} loops, {where['date']}. OpenCV {where['opencv']},"
        f" Pillow {where['pillow']}, torchvision {where['torchvision']}, albumentations {where['albumentations']}."
    )
    rows = []
    for ending in ENDINGS:
        for name, t in results["timings"][ending].items():
            alike, used = (spread(results["ratios"][kind].get(name)) for kind in (ending, "as used"))
            rows.append((name, ending, times(t), alike, used if ending == "normalised" else ""))
    rows += [(f"ours, bicubic, {n}", "uint8", times(t), "", "") for n, t in results["timings"]["threads"].items()]
    header = "pipeline | ends in | median, ms an image | quartiles | ours, ending alike, faster by | our uint8 crop by"
    return as_text(
        title,
        as_table(header, rows),
        "The last column sets peers that normalise on the CPU against our uint8 crop, which the device normalises: what"
        " each costs the CPU as it is used, not the same work. torchvision resizes with antialiasing, its default, and"
        " decodes through Pillow; the others and ours have none. All begin with bytes in memory, and every pipeline was"
        " made before the timing; only those by threads start and end within it.",
        f"Two threads over one: {spread(results['scaling'])}.",
    )


def open_files(config: PipelineConfig) -> FileSource:
    source = open_source("", config.data_root, config.data_lst)
    assert isinstance(source, FileSource)
    count = config.images or len(source)
    return FileSource(source.root, source.images[:count], source.labels[:count], source.keys[:count])


def main(argv: list[str]) -> int:
    config = configure(PipelineConfig, argv, "pipeline")
    need_native_loader()
    source = open_files(config)
    timings, checks = measure(source, config.rounds)
    native = extension.load()[0]
    assert native is not None
    threads = timings["threads"]
    results = {
        "images": len(source) // BATCH * BATCH,
        "checks": [one.as_dict() for one in checks],
        "vector_extension": native.vector_extension(),
        "timings": {ending: {name: t.in_ms() for name, t in found.items()} for ending, found in timings.items()},
        "ratios": {kind: {name: t.summary() for name, t in found.items()} for kind, found in ratios(timings).items()},
        "scaling": threads["1 threads"].over(threads["2 threads"]).summary(),
    }
    return publish(
        "pipeline",
        config,
        environment(CPU, "opencv-python-headless", "torchvision", "albumentations"),
        results,
        as_markdown,
    )


def test_pipeline(tmp_path: Any) -> None:
    """A small run: everything works and ours is ahead of every pipeline that does the same."""
    folder = builtin_data(tmp_path, train=24, val=1)
    found = ratios(measure(list_source(folder, folder / "train.txt"), 4)[0])["uint8"]
    del found["OpenCV decoding alone"]
    print({name: f"{t.median:.2f}" for name, t in found.items()})
    assert min(t.median for t in found.values()) > 1


if __name__ == "__main__":
    run(main)
