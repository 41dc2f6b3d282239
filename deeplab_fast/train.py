"""Train DeepLabV3: ``python -m deeplab_fast.train`` (see ``--help``)."""

import logging
from typing import Any

from .cli import parse_flags, run
from .config import TrainConfig, validate_train
from .config.recipes import recipe_names
from .data.classes import described_flags
from .data.remote import RecordCache, find_records
from .data.synthetic import CLASSES
from .distributed import world_from_environment
from .errors import UserError
from .runtime import select_device
from .training.fit import fit

logger = logging.getLogger("deeplab_fast")

DESCRIPTION = "Train DeepLabV3. Without data flags it trains on the built-in data set, sized for this machine."
EPILOG = f"""recipes (--config=NAME): {", ".join(recipe_names())}. Example:
 python -m deeplab_fast.train --data_file=voc.tar --val_data_file=val.tar --train_dir=ckpt
 --model=deeplab_v3_s16 --ckpt_pre_trained=resnet101-imagenet --train_epochs=200 --batch_size=32"""


def builtin_preset(on_gpu: bool) -> dict[str, Any]:
    """Return flags for the built-in data set: under three minutes on two CPU cores; a larger network on a GPU."""
    preset = {
        "model": "deeplab_v3_s16",
        "backbone": "resnet18",
        "num_classes": len(CLASSES),
        "crop_size": 129,
        "batch_size": 8,
        "min_scale": 0.75,
        "max_scale": 1.5,
        "train_epochs": 12,
        "base_lr": 0.03,
        "warmup_steps": 50,
        "dropout": 0.1,
        "eval_epochs": 3,
        "save_steps": 400,
        "keep_checkpoint_max": 2,
    }
    if on_gpu:
        preset |= {"backbone": "resnet50", "crop_size": 257, "train_epochs": 60, "batch_size": 16}
    return preset


def resolve(flags: dict[str, Any], on_gpu: bool) -> TrainConfig:
    """Return the configuration from the flags given: presets for the built-in data set, defaults for the rest.

    Raises:
        UserError: a flag's value or a combination of flags cannot work.
    """
    asked = TrainConfig(**flags)
    if asked.is_builtin:
        flags = builtin_preset(on_gpu) | flags
    else:
        data_file = find_records(asked.data_file, RecordCache.of(asked))
        flags = flags | described_flags(flags, data_file, asked.data_lst, asked.data_root)
    if not flags.get("train_dir"):
        flags = flags | {"train_dir": "runs/builtin" if asked.is_builtin else f"runs/{asked.model}"}
    config = TrainConfig(**flags)
    validate_train(config)
    return config


def main(argv: list[str]) -> int:
    """Train as the command line says; return the exit status."""
    world = world_from_environment()
    if not world.is_main:
        logger.setLevel(logging.WARNING)
    try:
        flags = parse_flags(TrainConfig, argv, "deeplab_fast.train", DESCRIPTION, EPILOG)
        on_gpu = select_device(flags.get("device_target", "auto"), world.local_rank).type == "cuda"
        config = resolve(flags, on_gpu)
    except UserError:
        if world.local_rank == 0:
            raise
        return 2  # the first process of this host has the same flags and says it
    outcome = fit(config, world)
    if outcome.best is not None:
        at_end = "not measured" if outcome.miou is None else f"{outcome.miou:.4f}"
        last = f"held-out mIoU {at_end} at the end"
        print(f"{last}; best {outcome.best_miou:.4f} in epoch {outcome.best_epoch}: {outcome.best}")
    if outcome.report is not None:
        print(f"report {outcome.report}")
    return 0 if outcome.stopped_by is None else 128 + outcome.stopped_by


if __name__ == "__main__":
    run(main)
