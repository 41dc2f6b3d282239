"""The way from the flags that were given to a complete configuration of a run."""

from typing import Any

from ..config import TrainConfig, validate_train
from ..data.classes import described_flags
from ..data.remote import RecordCache, find_records
from ..data.synthetic import CLASSES


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
