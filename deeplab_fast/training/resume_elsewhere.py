"""A run that continues with another number of processes or another batch size: the same images at each step.

A step takes ``processes x batch_size x accumulate_steps`` consecutive samples of an epoch's permutation
(:class:`~deeplab_fast.data.schedule.Schedule`). Any three numbers of the same product take the same ones, so the
samples, their augmentation, the learning rates and the divisor of the loss stay what they were. What changes is over
how many images BatchNorm's statistics are, and the order of sums.
"""

import logging
from dataclasses import replace
from typing import Any

from ..config import TrainConfig
from ..errors import UserError

logger = logging.getLogger("deeplab_fast")


def dealt_anew(config: TrainConfig, content: dict[str, Any], processes: int, name: str) -> TrainConfig:
    """Return ``config`` with the batch size and accumulation by which ``processes`` take as many images a step.

    ``content`` is what the checkpoint ``name`` holds. The batch is the largest that divides the images of a process and
    is at most ``--batch_size``.

    Raises:
        UserError: the images do not divide among so many processes; says among how many they do.
    """
    images = images_a_step(content)
    if images % processes:
        fitting = ", ".join(str(n) for n in range(1, images + 1) if images % n == 0)
        raise UserError(
            f"--resume_elsewhere=True: {name} takes {images} images a step, which do not divide among {processes}"
            f" processes; expected one of {fitting}"
        )
    share = images // processes
    batch = next(n for n in range(min(config.batch_size, share), 0, -1) if share % n == 0)
    config = replace(config, batch_size=batch, accumulate_steps=share // batch)
    before = _batchnorm_images(content["config"], content["world_size"])
    now = _batchnorm_images(vars(config), processes)
    logger.info(
        "--resume_elsewhere: %d images a step as before: %d x --batch_size=%d --accumulate_steps=%d",
        images,
        processes,
        batch,
        config.accumulate_steps,
    )
    if now != before and not config.freeze_bn:
        logger.warning(
            "BatchNorm's statistics are now over %d images, before over %d: this is no longer the run that began",
            now,
            before,
        )
    return config


def images_a_step(content: dict[str, Any]) -> int:
    """Return the number of images that a step of the checkpoint's run takes, over all processes."""
    saved = content["config"]
    return int(content["world_size"]) * int(saved["batch_size"]) * int(saved["accumulate_steps"])


def _batchnorm_images(config: dict[str, Any], processes: int) -> int:
    """Return the number of images that one normalisation sees."""
    return int(config["batch_size"]) * (processes if config["sync_bn"] else 1)


def check_dealt_alike(config: TrainConfig, content: dict[str, Any], processes: int, name: str) -> None:
    """Refuse to continue with another dealing of a step's images, unless ``--resume_elsewhere`` allows it.

    Raises:
        UserError: names the flags, and what would do.
    """
    saved = content["config"]
    before = (int(content["world_size"]), int(saved["batch_size"]), int(saved["accumulate_steps"]))
    now = (processes, config.batch_size, config.accumulate_steps)
    if now == before:
        return
    if config.resume_elsewhere and images_a_step(content) == now[0] * now[1] * now[2]:
        return
    raise UserError(
        f"{name} was trained by {_in_words(before)}; this run has {_in_words(now)}. Give the same to continue as if"
        f" never interrupted, or --resume_elsewhere=True to continue with the same {images_a_step(content)} images a"
        " step"
    )


def _in_words(dealing: tuple[int, int, int]) -> str:
    processes, batch, accumulate = dealing
    plural = "es" if processes > 1 else ""
    return f"{processes} process{plural} x --batch_size={batch} x --accumulate_steps={accumulate}"
