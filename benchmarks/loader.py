"""Rate at which a data set can be fed, and what holds it back.

``python -m benchmarks.run loader --data_file=voc.tar`` loads batches as training would, for a few seconds with each
number of threads, and names the bottleneck: disk, decode, augment or copy.
"""

import os
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from deeplab_fast.cli import run
from deeplab_fast.config.flags import flag
from deeplab_fast.config.shared import Device
from deeplab_fast.data.augment import Augment
from deeplab_fast.data.dataset import BadSamples, TrainingSet
from deeplab_fast.data.native_loader import GpuAugment, NativeLoader
from deeplab_fast.data.open_records import open_records
from deeplab_fast.data.schedule import Schedule
from deeplab_fast.data.sources import Source, list_source
from deeplab_fast.data.synthetic import builtin_data
from deeplab_fast.errors import UserError
from deeplab_fast.ops import extension
from deeplab_fast.ops.input.sample_loader import missing
from deeplab_fast.runtime import select_device
from deeplab_fast.runtime.environment import environment

from .cases.data_peers import CROP, HIGH, IGNORE, LOW, MEAN_RGB, STD_RGB
from .report import as_table, as_text, configure, publish
from .timing import count_for

# Stages of the threads by what a user could do about them.
KINDS = {"read": "disk", "decode image": "decode", "decode label": "decode", "augment": "augment"}
ADVICE = {
    "disk": "a faster disk, or records in memory (a RAM disk)",
    "decode": "more threads (--num_workers)",
    "augment": "more threads (--num_workers), or --augment_on=gpu",
    "copy": "--augment_on=gpu sends fewer bytes where crops are enlarged; else the bus is the limit",
    "Python": "nothing here: the threads wait for the main thread, which does nothing but ask",
}


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Data"""

    data_file: str = flag(
        "", "Records: the name given to prepare --dst_path, a shard, a glob or the folder; MindRecord."
    )
    data_root: str = flag("", "Folder that the paths in --data_lst start from.")
    data_lst: str = flag("", "List file, instead of records; without either, the built-in data set.")
    batch_size: int = flag(32, "Images a batch.", minimum=1)
    crop_size: int = flag(513, "Side of the crops.", minimum=17)
    device_target: Device = flag("auto", "Where batches are sent.")


@dataclass(frozen=True, kw_only=True)
class LoaderConfig(DataConfig):
    """Loader"""

    num_workers: tuple[int, ...] = flag((), "Numbers of threads; default 1, 2, ... up to the cores.", minimum=1)
    interpolation: Literal["bicubic", "bilinear"] = flag("bicubic", "Resampling.")
    augment_on: Literal["cpu", "gpu"] = flag("cpu", "Where crops are made.")
    seconds: float = flag(3.0, "Measured for each number of threads.", above=0)
    out: str = flag("", "Folder for loader.json and loader.md.")


@dataclass(frozen=True)
class Finding:
    """Images a second, and how the time was spent: shares of the threads' time, by kind."""

    threads: int
    images_per_s: float
    shares: dict[str, float]
    bottleneck: str


def measure(dataset: TrainingSet, config: LoaderConfig, threads: int, device: torch.device) -> Finding:
    """Load for ``config.seconds``, after a first batch."""
    gpu_augment = GpuAugment(MEAN_RGB, STD_RGB, torch.bfloat16) if config.augment_on == "gpu" else None
    size = min(config.batch_size, len(dataset.source))
    loader = NativeLoader(dataset, Schedule(len(dataset.source), size, 1), threads, device, BadSamples(), gpu_augment)
    batches = loader.batches(0, 1 << 40)
    next(batches)
    before = loader.samples.seconds()
    images, elapsed = count_for(config.seconds, lambda: len(next(batches).keys), device)
    after = loader.samples.seconds()
    batches.close()  # type: ignore[attr-defined]
    shares: dict[str, float] = {}
    for stage, kind in KINDS.items():
        shares[kind] = shares.get(kind, 0.0) + (after[stage] - before[stage]) / (threads * elapsed)
    idle = 1 - sum(shares.values())
    bottleneck = max(shares, key=lambda kind: shares[kind])
    if idle > 0.3:  # the threads are ahead of whoever takes the batches
        bottleneck = "copy" if device.type == "cuda" else "Python"
    return Finding(threads, images / elapsed, {**shares, "idle": max(0.0, idle)}, bottleneck)


def need_native_loader() -> None:
    """Check that the native loader is there.

    Raises:
        UserError: it is not; says why.
    """
    if missing():
        raise UserError(f"no native loader here: {missing()}")


def training_set(source: Source, crop_size: int = CROP, bicubic: bool = True) -> TrainingSet:
    """Return the data as the recipe augments it; any label is a class."""
    return TrainingSet(source, Augment(crop_size, LOW, HIGH, IGNORE, bicubic), 256, 1)


def open_source(data_file: str, data_root: str, data_lst: str) -> Source:
    """Open records, or a list, or the built-in data set."""
    if data_file:
        return open_records(data_file)
    if data_lst:
        return list_source(data_root, data_lst)
    folder = builtin_data("")
    return list_source(folder, folder / "train.txt")


def as_markdown(results: dict[str, Any]) -> str:
    where, config = results["environment"], results["config"]
    kinds = list(results["findings"][0]["shares"])
    title = (
        f"Loader, crop {config['crop_size']}, {config['interpolation']}, augmentation on the"
        f" {config['augment_on'].upper()}, batches of {config['batch_size']}: {where['device']}, {where['date']}."
    )
    rows = [
        (f["threads"], f"{f['images_per_s']:,.0f}", *(f"{100 * f['shares'][kind]:.0f}" for kind in kinds))
        for f in results["findings"]
    ]
    table = as_table(f"threads | images/s | {' | '.join(f'{kind}, % of their time' for kind in kinds)}", rows)
    best = max(results["findings"], key=lambda f: f["images_per_s"])
    advice = f"bottleneck with {best['threads']} threads: {best['bottleneck']}; {ADVICE[best['bottleneck']]}"
    return as_text(title, table, advice)


def main(argv: list[str]) -> int:
    config = configure(LoaderConfig, argv, "loader")
    need_native_loader()
    device = select_device(config.device_target)
    if config.augment_on == "gpu":
        reason = extension.cuda_on(device)[1] if device.type == "cuda" else "no CUDA GPU is usable here"
        if reason:
            raise UserError(f"--augment_on=gpu: {reason}")
    source = open_source(config.data_file, config.data_root, config.data_lst)
    dataset = training_set(source, config.crop_size, config.interpolation == "bicubic")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = [measure(dataset, config, n, device) for n in config.num_workers or range(1, cores + 1)]
    results = {
        "images": len(source),
        "findings": [asdict(f) for f in found],
    }
    return publish("loader", config, environment(device), results, as_markdown)


def test_loader(capsys: Any, tmp_path: Any) -> None:
    """A small run names a bottleneck."""
    folder = builtin_data(tmp_path, train=24, val=1)
    flags = [f"--data_root={folder}", f"--data_lst={folder}/train.txt", "--seconds=0.3", "--num_workers=1"]
    assert main([*flags, "--device_target=CPU", "--crop_size=129", "--batch_size=8"]) == 0
    assert "bottleneck with 1 threads: " in capsys.readouterr().out


if __name__ == "__main__":
    run(main)
