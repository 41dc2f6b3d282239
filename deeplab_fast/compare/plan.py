"""The way from a comparison's flags to a training configuration that both implementations read."""

import dataclasses
from pathlib import Path
from typing import Any

from deeplab_fast.config import TrainConfig, validate_train
from deeplab_fast.data.image_sizes import median_side
from deeplab_fast.data.sources import Source
from deeplab_fast.ops import Decoding
from deeplab_fast.training.presets import builtin_preset, resolve

from .config import CompareConfig, validate_compare
from .reference_data import base_size

_NEVER = 1 << 30  # steps or minutes between what no run comes to
_LARGEST_SCALE = 16.0  # that --max_scale takes
_DESCRIBED = ("num_classes", "ignore_label")  # that the data may say
_SHARED = sorted(
    {f.name for f in dataclasses.fields(CompareConfig)} & {f.name for f in dataclasses.fields(TrainConfig)}
)


def completed(flags: dict[str, Any], on_gpu: bool) -> CompareConfig:
    """Return the comparison's configuration from the flags given, with what data and presets say where they do not.

    Raises:
        UserError: a flag's value or a combination of flags cannot work.
    """
    asked = CompareConfig(**flags)
    validate_compare(asked)
    builtin = not (asked.data_file or asked.data_root or asked.data_lst)
    left_open = builtin_preset(on_gpu).keys() if builtin else _DESCRIBED
    known = {name: getattr(asked, name) for name in _SHARED if name in flags or name not in left_open}
    if not builtin or "epochs" in flags:
        known["train_epochs"] = asked.epochs
    found = resolve(known, on_gpu)
    shared = {name: getattr(found, name) for name in _SHARED if name != "head"}
    config = dataclasses.replace(asked, epochs=found.train_epochs, **shared)
    validate_compare(config)
    return config


def training_of(config: CompareConfig, seed: int, folder: Path, source: Source) -> TrainConfig:
    """Return the configuration of a run: the reference's optimiser and schedule, sizes of crops alike in both.

    Ours scales each image's own size; the range is such that an image whose shorter side is the median of ``source``
    is resized as the reference does.

    Raises:
        UserError: no image of ``source`` can be read, or a flag's value cannot work.
    """
    flags = {name: getattr(config, name) for name in _SHARED} | {"ckpt_pre_trained": ""}
    plain = TrainConfig(**flags)
    flag = f"--data_lst={config.data_lst}" if config.data_lst else "the training data"
    side, _ = median_side(source, Decoding.of(plain), config.num_workers, min, flag)
    unit = base_size(config.crop_size) / side
    run = dataclasses.replace(
        plain,
        seed=seed,
        train_dir=str(folder),
        train_epochs=config.epochs,
        lr_type="poly",
        min_scale=min(0.5 * unit, _LARGEST_SCALE),
        max_scale=min(2.0 * unit, _LARGEST_SCALE),
        eval_epochs=0,
        save_steps=_NEVER,
        save_minutes=float(_NEVER),
    )
    validate_train(run)
    return run
