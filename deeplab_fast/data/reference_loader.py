"""Batches through Pillow and NumPy: what the native loader must equal, and what serves where it is not built."""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import torch

from deeplab_fast.errors import UserError

from .augment import Crop, colour_matrix, draws
from .dataset import BadSamples, Batch, TrainingSet
from .pairs import read_pair
from .schedule import Schedule
from .threads import ordered_map

_BATCHES_AHEAD = 2


class ReferenceLoader:
    """Loads the batches of a schedule in ``threads`` Python threads (0: in the calling one)."""

    def __init__(self, dataset: TrainingSet, schedule: Schedule, threads: int, bad: BadSamples) -> None:
        self.dataset, self.schedule, self.threads, self.bad = dataset, schedule, threads, bad

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield the batches ``start`` up to ``stop``, counted over all epochs, on the CPU.

        Raises:
            UserError: a sample cannot be used; names its file.
        """
        size = self.schedule.batch_size
        pairs = self._as_they_come(itertools.chain.from_iterable(self.schedule.batches(start, stop)))
        samples = ordered_map(self._load, pairs, self.threads, _BATCHES_AHEAD * size)
        while group := list(itertools.islice(samples, size)):
            keys, crops = zip(*group, strict=True)
            tensors = [torch.from_numpy(np.stack(arrays)) for arrays in zip(*crops, strict=True)]
            yield Batch(tensors[0], tensors[1], tensors[2], list(keys))

    def _as_they_come(self, pairs: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        for epoch, index in pairs:
            self.dataset.source.require((index,))
            yield epoch, index

    def _load(self, wanted: tuple[int, int]) -> tuple[str, Crop]:
        index, attempt = wanted[1], 0
        while True:
            self.dataset.source.require((index,))  # not in the try: a shard that does not come is no bad sample
            try:
                return self._load_one(*wanted, index)
            except UserError as error:
                index = self.bad.replace(self.dataset, wanted, index, attempt, error)
                attempt += 1

    def _load_one(self, epoch: int, wanted: int, index: int) -> tuple[str, Crop]:
        """Load sample ``index``, augmented as drawn for ``wanted``."""
        dataset = self.dataset
        source, ignore_label = dataset.source, dataset.augment.ignore_label
        image, label = read_pair(source, index, dataset.num_classes, ignore_label, dataset.decoding)
        draw = draws(dataset.seed, epoch, wanted)
        colour = colour_matrix(dataset.seed, epoch, wanted) if dataset.augment.photometric else None
        return source.key(index), dataset.augment(image, label, draw, colour)
