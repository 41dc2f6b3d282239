"""The samples that a step sees: a function of the seed, for any process and any starting point."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .philox import permutation


@dataclass(frozen=True)
class Schedule:
    """The samples that each process sees at each step.

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
        """Yield (epoch, index) pairs of this process's batches ``start`` up to ``stop``, counted over all epochs."""
        order, ordered_epoch = np.empty(0, np.int64), -1
        for number in range(start, stop):
            epoch, batch = divmod(number, self.batches_per_epoch)
            if epoch != ordered_epoch:
                order, ordered_epoch = permutation(self.seed, epoch, self.samples), epoch
            first = (batch * self.world + self.rank) * self.batch_size
            yield [(epoch, int(i)) for i in order[first : first + self.batch_size]]
