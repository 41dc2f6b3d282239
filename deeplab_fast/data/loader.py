"""Batches from a source: decode and augment in worker processes, in an order fixed by the seed.

A batch is a function of (seed, step): the permutation of an epoch and every augmentation draw come
from counters, so any number of workers gives the same batches and training can start at any step.
"""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from deeplab_fast.errors import UserError
from deeplab_fast.ops import decode_image, decode_label

from .augment import Augment, draws
from .philox import permutation
from .records import check_values
from .sources import Sample, Source


class Batch(NamedTuple):
    """``images`` uint8 ``[N, S, S, 3]`` RGB, ``labels`` uint8 ``[N, S, S]``, ``extents`` int32 ``[N, 4]``, keys."""

    images: Tensor
    labels: Tensor
    extents: Tensor
    keys: list[str]

    def to(self, device: torch.device) -> "Batch":
        images, labels, extents = (t.to(device, non_blocking=True) for t in self[:3])
        return Batch(images, labels, extents, self.keys)


def decode_pair(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Decoded image and label of a sample, of the same size.

    Raises:
        UserError: one cannot be decoded or their sizes differ; names the files.
    """
    image = decode_image(sample.image, sample.image_where)
    label = decode_label(sample.label, sample.label_where)
    if image.shape[:2] != label.shape:
        raise UserError(
            f"{sample.label_where}: {label.shape[1]}x{label.shape[0]} pixels; expected"
            f" {image.shape[1]}x{image.shape[0]} as its image"
        )
    return image, label


@dataclass(frozen=True)
class TrainingSet(Dataset):
    """Augmented samples by (epoch, index). Errors are returned, not raised: they cross processes as they are."""

    source: Source
    augment: Augment
    num_classes: int
    seed: int

    def __getitem__(self, place: tuple[int, int]) -> tuple | UserError:
        epoch, index = place
        try:
            sample = self.source.read(index)
            image, label = decode_pair(sample)
            check_values(label, sample.label_where, self.num_classes, self.augment.ignore_label)
        except UserError as error:
            return error
        return (sample.key, *self.augment(image, label, draws(self.seed, epoch, index)))


@dataclass(frozen=True)
class Schedule:
    """Which samples each process sees at each step.

    An epoch is a permutation of the source cut into global batches; process ``rank`` of ``world``
    takes the ``rank``-th part of each. A step takes ``accumulate`` of them; what does not fill the
    last step is dropped.
    """

    samples: int
    batch_size: int
    seed: int
    rank: int = 0
    world: int = 1
    accumulate: int = 1

    @property
    def steps_per_epoch(self) -> int:
        return self.samples // (self.batch_size * self.world * self.accumulate)

    @property
    def batches_per_epoch(self) -> int:
        return self.steps_per_epoch * self.accumulate

    def batches(self, start: int, stop: int) -> Iterator[list[tuple[int, int]]]:
        """(epoch, index) pairs of this process's batches ``start`` up to ``stop``, counted over all epochs."""
        order, ordered_epoch = np.empty(0, np.int64), -1
        for number in range(start, stop):
            epoch, batch = divmod(number, self.batches_per_epoch)
            if epoch != ordered_epoch:
                order, ordered_epoch = permutation(self.seed, epoch, self.samples), epoch
            first = (batch * self.world + self.rank) * self.batch_size
            yield [(epoch, int(i)) for i in order[first : first + self.batch_size]]


def _collate(items: list[tuple | UserError]) -> Batch | UserError:
    good = []
    for item in items:
        if isinstance(item, UserError):
            return item
        good.append(item)
    keys, images, labels, extents = zip(*good, strict=True)
    tensors = (torch.from_numpy(np.stack(arrays)) for arrays in (images, labels, extents))
    return Batch(next(tensors), next(tensors), next(tensors), list(keys))


def quiet_worker(_: int) -> None:
    """Worker processes use one thread each and leave signals, often sent to all, to the main process that ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)


class _BatchPlaces:
    """The schedule as DataLoader's ``batch_sampler``."""

    def __init__(self, schedule: Schedule, start: int, stop: int) -> None:
        self.schedule, self.start, self.stop = schedule, start, stop

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return self.schedule.batches(self.start, self.stop)

    def __len__(self) -> int:
        return self.stop - self.start


def training_batches(
    dataset: TrainingSet, schedule: Schedule, start: int, stop: int, num_workers: int, pin_memory: bool
) -> Iterator[Batch]:
    """This process's batches ``start`` up to ``stop``, counted over all epochs, prefetched.

    Raises:
        UserError: a sample cannot be used; names its file.
    """
    loader = DataLoader(
        dataset,
        batch_sampler=_BatchPlaces(schedule, start, stop),
        num_workers=num_workers,
        collate_fn=_collate,
        pin_memory=pin_memory,
        worker_init_fn=quiet_worker,
        generator=torch.Generator(),  # its own: starting a loader must not draw from the generator that training uses
        prefetch_factor=4 if num_workers else None,
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield Batch(*batch)
