"""The loader and the step together: what a step costs when its batches are loaded, beside the step alone.

``python -m benchmarks.run loader_step --data_file=voc.tar`` trains as ``deeplab_fast.train`` would, with the same
loader and the same step, first on one batch over and over, then on loaded ones; the difference is the loader's. Its
first batch is compared with the reference loader's, bit for bit.
"""

import time
from dataclasses import dataclass
from typing import Any

import torch

from deeplab_fast.cli import run
from deeplab_fast.config import TrainConfig
from deeplab_fast.config.flags import flag
from deeplab_fast.config.shared import Backbone, Model, Precision
from deeplab_fast.data.augment import Augment
from deeplab_fast.data.dataset import BadSamples, Batch, TrainingSet
from deeplab_fast.data.reference_loader import ReferenceLoader
from deeplab_fast.data.schedule import Schedule
from deeplab_fast.data.sources import Source
from deeplab_fast.distributed import World
from deeplab_fast.model import build_model
from deeplab_fast.ops import normalise
from deeplab_fast.runtime import DTYPES, prepare_backends, select_device
from deeplab_fast.runtime.environment import environment
from deeplab_fast.training.state import build_state
from deeplab_fast.training.step import choose_step
from deeplab_fast.training.trainer import build_loader

from .agreement import Check, require, same
from .loader import DataConfig, open_source
from .report import as_table, as_text, configure, publish, times
from .timing import interleave

_WARM_UP = 5


@dataclass(frozen=True, kw_only=True)
class LoaderStepConfig(DataConfig):
    """Loader and step"""

    model: Model = flag("deeplab_v3_s16", "Output stride 16 or 8.")
    backbone: Backbone = flag("resnet101", "ResNet depth.")
    num_classes: int = flag(21, "Classes.", minimum=2, maximum=256)
    precision: Precision = flag("bf16", "Precision.")
    num_workers: int = flag(2, "Threads that decode and augment.", minimum=0)
    steps: int = flag(30, "Timed steps of each kind.", minimum=4)
    out: str = flag("", "Folder for loader_step.json and loader_step.md.")


def first_batch_check(found: Batch, train: TrainConfig, source: Source, schedule: Schedule) -> Check:
    """Compare the loader's first batch with the reference loader's, bit for bit, normalised where the loader's is.

    Raises:
        UserError: they differ.
    """
    augment = Augment(
        train.crop_size, train.min_scale, train.max_scale, train.ignore_label, train.interpolation == "bicubic"
    )
    dataset = TrainingSet(source, augment, train.num_classes, train.seed)
    expected = next(ReferenceLoader(dataset, schedule, 0, BadSamples()).batches(0, 1))
    images = expected.images
    if found.images.dtype != torch.uint8:
        images = normalise(images, expected.extents, train.mean_rgb, train.std_rgb, DTYPES[train.precision])
        images = images.permute(0, 2, 3, 1)
    pairs = ((found.images, images), (found.labels, expected.labels), (found.extents, expected.extents))
    check = same("values of the first batch, against the reference's", [(a.cpu(), b) for a, b in pairs])
    return require(check, f"the loader's first batch differs from the reference's in {check.found:,} values")


def as_markdown(results: dict[str, Any]) -> str:
    where, config = results["environment"], results["config"]
    title = (
        f"Loader and step, {config['backbone']}, batch {config['batch_size']}, crop {config['crop_size']},"
        f" {config['precision']}, {config['num_workers']} threads: {where['device']}, torch {where['torch']},"
        f" {where['date']}."
    )
    rows = [("the step alone", times(results["alone"], 1)), ("loader and step", times(results["with_loader"], 1))]
    share = (
        f"With the loader a step takes {results['ratio']:.3f} of the step alone; it waits for data"
        f" {results['data_share']:.1%} of its time. Its first batch is the reference loader's, bit for bit."
    )
    return as_text(title, as_table(" | median, ms | quartiles, ms", rows), share)


def main(argv: list[str]) -> int:
    config = configure(LoaderStepConfig, argv, "loader_step")
    device = select_device(config.device_target)
    prepare_backends(device)
    source = open_source(config.data_file, config.data_root, config.data_lst)
    shared = ("model", "backbone", "num_classes", "batch_size", "crop_size", "precision", "num_workers")
    train = TrainConfig(max_steps=10**6, base_lr=1e-4, **{k: getattr(config, k) for k in shared})
    schedule = Schedule(len(source), config.batch_size, 1)
    torch.manual_seed(0)
    state = build_state(train, build_model(train), device, World(), schedule)
    state.network.train()
    step, plan = choose_step(state)
    loader = build_loader(train, source, schedule, device)
    batches = loader.batches(0, 10**6)

    fixed = next(batches)
    check = first_batch_check(fixed, train, source, schedule)
    alone = interleave({"alone": lambda: step([fixed])}, config.steps, _WARM_UP, device)["alone"]
    waited: list[float] = []

    def load_and_step() -> None:
        start = time.perf_counter()
        batch = next(batches)
        waited.append(time.perf_counter() - start)
        step([batch])

    both = interleave({"both": load_and_step}, config.steps, _WARM_UP, device)["both"]
    batches.close()  # type: ignore[attr-defined]
    results = {
        "plan": {"data": loader.plan, "speed": plan},
        "checks": [check.as_dict()],
        "alone": alone.in_ms(),
        "with_loader": both.in_ms(),
        "ratio": both.median / alone.median,
        "data_share": sum(waited[_WARM_UP:]) / sum(both.values),
    }
    return publish("loader_step", config, environment(device), results, as_markdown)


if __name__ == "__main__":
    run(main)
