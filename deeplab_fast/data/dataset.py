"""Input and output of a loader: the training set, a batch, and the rule for samples that cannot be used."""

import logging
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from deeplab_fast.errors import UserError
from deeplab_fast.ops import DEFAULT_DECODING, Decoding

from .augment import Augment
from .philox import REPLACEMENT, uniform
from .sources import Source

logger = logging.getLogger("deeplab_fast")

_ATTEMPTS = 4  # samples tried in the place of a bad one


class Batch(NamedTuple):
    """``images`` uint8 ``[N, S, S, 3]`` RGB, ``labels`` uint8 ``[N, S, S]``, ``extents`` int32 ``[N, 4]``, keys.

    Where the GPU augments, ``images`` are already normalised, of a floating dtype.
    """

    images: Tensor
    labels: Tensor
    extents: Tensor
    keys: list[str]

    def to(self, device: torch.device) -> "Batch":
        """Copy the tensors to ``device``, without waiting for the copy."""
        images, labels, extents = (t.to(device, non_blocking=True) for t in self[:3])
        return Batch(images, labels, extents, self.keys)


@dataclass(frozen=True)
class TrainingSet:
    """Samples, and how they are decoded and augmented."""

    source: Source
    augment: Augment
    num_classes: int
    seed: int
    decoding: Decoding = DEFAULT_DECODING


@dataclass
class BadSamples:
    """The rule of ``--on_bad_sample``: stop at the first, or take others in their place, up to a limit.

    The others are decided by the seed, so a run with bad samples repeats and resumes like any other.
    """

    skip: bool = False
    limit: int = 100
    seen: set[int] = field(default_factory=set)

    def replace(self, dataset: TrainingSet, wanted: tuple[int, int], index: int, attempt: int, error: UserError) -> int:
        """Return the sample to try for ``wanted`` (epoch and index), where ``error`` makes ``index`` useless.

        ``attempt`` counts from 0.

        Raises:
            UserError: ``error`` itself, or that there are too many of its kind.
        """
        if not self.skip:
            raise error
        if index not in self.seen:
            self.seen.add(index)
            logger.warning("bad sample %d of at most %d skipped: %s", len(self.seen), self.limit, error)
        if len(self.seen) > self.limit:
            raise UserError(f"{error}; that is more than the {self.limit} bad samples of --max_bad_samples")
        if attempt >= _ATTEMPTS:
            raise UserError(f"{error}; {_ATTEMPTS} samples tried in its place are no better")
        draws = uniform(dataset.seed, *wanted, REPLACEMENT)
        return int(draws[attempt] * len(dataset.source))
