"""Checks of a run's data before its first step, so that nothing known then ends it later."""

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..config import TrainConfig
from ..data.labels import stray_labels, unfit_labels
from ..data.remote import label_values
from ..data.sources import Source
from ..data.usable import Subset, count_labels, try_samples
from ..distributed import World
from ..errors import UserError
from ..ops import Decoding

logger = logging.getLogger("deeplab_fast")

_NAMED = 5  # samples named of those left out


def check_held_out(config: TrainConfig, source: Source, world: World) -> Source:
    """Decode the held-out samples, each process its share, and return those that every evaluation will use.

    All processes return the same ones, and call this together.

    Raises:
        UserError: samples cannot be used and may not be left out, or the labels hold no class; the same for all.
    """
    share = range(world.rank, len(source), world.size)
    with world.alike():
        source.require(share)
    decoding = Decoding.of(config)
    found = try_samples(
        source, share, config.num_classes, config.ignore_label, decoding, config.num_workers, world.is_main
    )
    parts = world.gather((found.faults, found.pixels))
    faults = {index: fault for part, _ in parts for index, fault in part.items()}
    pixels = sum((counts for _, counts in parts), np.zeros(256, np.int64))
    reasons = [faults[index] for index in sorted(faults)]
    if reasons and config.on_bad_sample != "skip":
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        raise UserError(f"held-out data: {reasons[0]}{more}; --on_bad_sample=skip leaves such samples out")
    if len(reasons) > config.max_bad_samples:
        raise UserError(
            f"held-out data: {len(reasons)} samples cannot be used, the first {reasons[0]}; that is more than the"
            f" {config.max_bad_samples} of --max_bad_samples"
        )
    if len(reasons) == len(source):
        raise UserError(f"held-out data: none of {len(source)} samples can be used, the first {reasons[0]}")
    unfit = unfit_labels(pixels, config.num_classes, config.ignore_label)
    if unfit is not None and not _classes_in(pixels, config):
        raise UserError(f"held-out data: {unfit}")
    if world.is_main:
        if unfit is not None:
            logger.warning("held-out data: %s; evaluations will have no mIoU", unfit)
        _name_left_out(reasons, len(source))
    return Subset(source, [i for i in range(len(source)) if i not in faults]) if faults else source


def _name_left_out(reasons: Sequence[str], samples: int) -> None:
    for reason in reasons[:_NAMED]:
        logger.warning("left out of every evaluation: %s", reason)
    if reasons:
        more = f", {len(reasons) - _NAMED} of them not named here" if len(reasons) > _NAMED else ""
        logger.warning("evaluations are over %d of %d held-out samples%s", samples - len(reasons), samples, more)


def check_labels(config: TrainConfig, source: Source, names: Sequence[str]) -> None:
    """Say which classes the training labels hold, from some of them; from all of them where some seem of no use.

    Raises:
        UserError: nothing can be learned from these labels; says why, and what to do.
    """
    unfit: str | None = None
    first = 0
    known = label_values(source)  # of labels that are still to come
    counted = count_labels(source, Decoding.of(config), config.num_workers)
    for read, pixels in counted if known is None else [(len(source), known)]:
        first = first or read
        unfit = unfit_labels(pixels, config.num_classes, config.ignore_label) or _weightless(pixels, config)
        if unfit is None:
            strays = stray_labels(pixels, config.num_classes, config.ignore_label)
            if strays is not None and config.on_bad_sample != "skip":  # the step that meets one would end the run
                raise UserError(f"training data: {strays}")
            logger.info("%s", describe_classes(pixels, config, names, read, len(source)))
            return
        if read == first < len(source):
            logger.info("classes: one at most in %d labels; reading all %d", read, len(source))
        if not pixels.any():
            unfit = None  # no label could be read: the loader will say why
    if unfit is not None:
        raise UserError(f"training data: {unfit}")


def describe_classes(
    pixels: NDArray[np.int64], config: TrainConfig, names: Sequence[str], read: int, samples: int
) -> str:
    """Describe in one line which classes the labels read (``pixels`` ``[256]``) hold, and which they lack."""
    present = _classes_in(pixels, config)
    possible = [c for c in range(config.num_classes) if c != config.ignore_label]
    of_which = f"{read} of {samples} labels" if read < samples else f"all {samples} labels"
    missing = [names[c] for c in possible if c not in present]
    if not missing:
        return f"classes: all {len(possible)} occur in {of_which}"
    more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
    return f"classes: {len(present)} of {len(possible)} occur in {of_which}; not {', '.join(missing[:8])}{more}"


def _classes_in(pixels: NDArray[np.int64], config: TrainConfig) -> list[int]:
    return [c for c in range(config.num_classes) if c != config.ignore_label and pixels[c]]


def _weightless(pixels: NDArray[np.int64], config: TrainConfig) -> str | None:
    """Return why no pixel has a weight in the loss, or None where one has."""
    if not config.class_weights or any(config.class_weights[c] for c in _classes_in(pixels, config)):
        return None
    return "--class_weights are 0 for every class in the labels: nothing would be learned"
