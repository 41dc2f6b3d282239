"""Sizes that ``auto`` leaves to the data and the memory: ``--crop_size`` and ``--batch_size``.

They are found once, at a run's start; its checkpoints hold the numbers, and what continues it takes those.
"""

import logging
from dataclasses import replace
from typing import Any

import torch

from ..config import AUTO, TrainConfig
from ..data.image_sizes import median_side
from ..data.sources import Source
from ..distributed import World
from ..ops import Decoding
from ..runtime import usable_memory
from .memory import step_memory
from .resume_elsewhere import images_a_step

logger = logging.getLogger("deeplab_fast")

LARGEST_CROP, SMALLEST_CROP = 513, 17
LARGEST_BATCH = 16
_IMAGES = 16  # a step, that --base_lr is meant for where the batch is auto
_STEPS = 4  # an epoch, at least: what does not fill the last one is dropped, a fifth at most


def sized_as_begun(config: TrainConfig, content: dict[str, Any]) -> TrainConfig:
    """Return ``config`` with the sizes that the run of a checkpoint began with where it says ``auto``."""
    saved = content["config"]
    if config.batch_size == AUTO:
        rate = _scaled_rate(config.base_lr, images_a_step(content))
        config = replace(config, batch_size=saved["batch_size"], base_lr=rate)
    return replace(config, crop_size=saved["crop_size"]) if config.crop_size == AUTO else config


def sized(config: TrainConfig, source: Source, device: torch.device, world: World) -> TrainConfig:
    """Return ``config`` with numbers instead of ``auto``, the same on all processes, which call this together.

    Raises:
        UserError: no image can be read.
    """
    if config.crop_size == AUTO:
        config = replace(config, crop_size=_common_crop(config, source, world))
    if config.batch_size == AUTO:
        config = _with_batch(config, len(source), device, world)
    return config


def _common_crop(config: TrainConfig, source: Source, world: World) -> int:
    """Return the crop that the main process finds."""
    crop = AUTO
    with world.together():
        if world.is_main:
            side, images = median_side(source, Decoding.of(config), config.num_workers)
            crop = crop_within(side, config.output_stride)
            logger.info("--crop_size=%d: the median of the longer sides of %d images is %d", crop, images, side)
    return int(world.gather(crop)[0])


def crop_within(side: int, stride: int) -> int:
    """Return the largest crop of ``side`` pixels at most whose corners the output's meet: ``stride * k + 1``."""
    return max(SMALLEST_CROP, (min(side, LARGEST_CROP) - 1) // stride * stride + 1)


def _with_batch(config: TrainConfig, samples: int, device: torch.device, world: World) -> TrainConfig:
    """Return ``config`` with the batch that the smallest memory of all processes holds, and the rate for it."""
    needed = step_memory(config)
    fitting = min(world.gather(needed.images_within(usable_memory(device))))
    share = samples // (world.size * config.accumulate_steps)
    batch = batch_within(fitting, share)
    images = batch * config.accumulate_steps * world.size
    rate = _scaled_rate(config.base_lr, images)
    if world.is_main:
        logger.info(
            "--batch_size=%d: memory holds about %d images, at %.0f MB and %.0f for each; an epoch has %d for a batch",
            batch,
            fitting,
            needed.fixed / 1e6,
            needed.per_image / 1e6,
            share,
        )
        if fitting == 0:
            logger.warning("memory may not be enough for one image: try a smaller --crop_size or --backbone")
        logger.info(
            "--base_lr=%g: %g is meant for %d images a step, of which there are %d",
            rate,
            config.base_lr,
            _IMAGES,
            images,
        )
    return replace(config, batch_size=batch, base_lr=rate)


def batch_within(fitting: int, share: int) -> int:
    """Return the largest power of two up to 16 that memory holds and that leaves an epoch its steps.

    ``fitting``: images that memory holds. ``share``: samples of a process in an epoch, for each batch of a step.
    """
    most = min(fitting, LARGEST_BATCH, max(2, share // _STEPS), share)
    return 1 << max(1, most).bit_length() - 1


def _scaled_rate(base_lr: float, images: int) -> float:
    return base_lr * images / _IMAGES
