"""Batches through native threads, and their way to the GPU.

On a CPU each batch is finished in memory of its own. For a GPU there is a ring of pinned slots: threads
fill one while others are copied, on a stream of their own; an event guards a slot until its copy is
done, another holds back the training stream until the batch is there.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from deeplab_fast.errors import UserError
from deeplab_fast.ops import augment_ragged
from deeplab_fast.ops.input.sample_loader import Crops, Ragged, ragged_room

from .dataset import BadSamples, Batch, TrainingSet
from .native_jobs import Begun, NativeJobs, Wanted
from .schedule import Schedule

_BATCHES_AHEAD = 3


@dataclass(frozen=True)
class GpuAugment:
    """Options of the augmentation on a GPU: how its images are normalised, and their dtype."""

    mean_rgb: tuple[float, ...]
    std_rgb: tuple[float, ...]
    dtype: torch.dtype


@dataclass
class _Slot:
    """Pinned memory of the ring; ``copied`` is set once a copy from it was begun."""

    memory: Crops | Ragged | None = None
    copied: "torch.cuda.Event | None" = None


@dataclass
class _Pending:
    """A batch on its way."""

    begun: Begun
    wanted: Wanted
    target: Crops | Ragged
    slot: _Slot | None
    batch: Batch | None = None  # once it was sent to the GPU
    arrived: "torch.cuda.Event | None" = None
    error: UserError | None = None  # to be raised in its turn


class NativeLoader:
    """Loads the batches of a schedule.

    Args:
        threads: that decode and augment; 0 does it when a batch is asked for.
        device: where batches are wanted.
        gpu_augment: augment on the GPU, and how; None augments on the CPU.
    """

    def __init__(
        self,
        dataset: TrainingSet,
        schedule: Schedule,
        threads: int,
        device: torch.device,
        bad: BadSamples,
        gpu_augment: GpuAugment | None = None,
    ) -> None:
        self.dataset, self.schedule, self.device, self.bad = dataset, schedule, device, bad
        self.gpu_augment = gpu_augment
        self.jobs = NativeJobs(dataset, threads)
        self.samples, self.options = self.jobs.samples, self.jobs.options
        self._on_gpu = device.type == "cuda"
        self._copies = torch.cuda.Stream(device) if self._on_gpu else None
        self._ring = deque(_Slot() for _ in range(_BATCHES_AHEAD + 1)) if self._on_gpu else None

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield the batches ``start`` up to ``stop``, counted over all epochs; closes the loader at the end.

        Raises:
            UserError: a sample cannot be used; names its file.
        """
        pending: deque[_Pending] = deque()
        try:
            for wanted in self.schedule.batches(start, stop):
                pending.append(self._begin(wanted))
                if len(pending) > _BATCHES_AHEAD:
                    yield self._take(pending)
            while pending:
                yield self._take(pending)
        finally:
            self.jobs.close()

    def _begin(self, wanted: Wanted) -> _Pending:
        slot = None
        target: Crops | Ragged
        if self._ring is not None:
            slot = self._ring.popleft()
            if slot.copied is not None:
                slot.copied.synchronize()
        if self.gpu_augment is not None:
            room = ragged_room(self.options, self.jobs.draws_of(wanted)[:, 0], self.dataset.decoding.max_pixels)
            old = slot.memory if slot is not None and isinstance(slot.memory, Ragged) else None
            target = self.samples.new_ragged(room, self._on_gpu, old)
        elif slot is not None and isinstance(slot.memory, Crops):
            target = slot.memory
        else:
            target = self.samples.new_crops(len(wanted), self._on_gpu)
        if slot is not None:
            slot.memory = target
        begun = self.jobs.begin(wanted, [index for _, index in wanted], target, list(range(len(wanted))))
        return _Pending(begun, wanted, target, slot)

    def _take(self, pending: deque[_Pending]) -> Batch:
        """Return the first batch; what else is decoded starts its way to the GPU."""
        if not self._on_gpu:
            item = pending.popleft()
            keys = self._complete(item)
            assert isinstance(item.target, Crops)
            return Batch(*item.target, keys)
        for item in pending:
            if item.batch is None and (item is pending[0] or self.jobs.done(item.begun)):
                try:
                    self._send(item)
                except UserError as error:
                    item.error = error
            if item.error is not None:
                break  # what comes after it will not be wanted
        item = pending.popleft()
        if item.error is not None:
            raise item.error
        assert item.batch is not None
        assert item.arrived is not None
        stream = torch.cuda.current_stream(self.device)
        stream.wait_event(item.arrived)
        for tensor in item.batch[:3]:
            tensor.record_stream(stream)
        return item.batch

    def _complete(self, item: _Pending) -> list[str]:
        """Wait for the threads, put others in the place of bad samples, and return the keys."""
        current = [index for _, index in item.wanted]
        failures = self.jobs.finish(item.begun, item.wanted, current, item.target, list(range(len(current))))
        attempt = 0
        while failures:
            failed = [failure.place for failure in failures]
            for failure in failures:
                i = failure.place
                error = self.jobs.error(failure, current[i])
                current[i] = self.bad.replace(self.dataset, item.wanted[i], current[i], attempt, error)
            again = [item.wanted[i] for i in failed], [current[i] for i in failed], item.target, failed
            failures = self.jobs.finish(self.jobs.begin(*again), *again)
            attempt += 1
        return [self.dataset.source.key(index) for index in current]

    def _send(self, item: _Pending) -> None:
        """Begin the copy to the GPU, and there what is left to do."""
        keys = self._complete(item)
        assert self._copies is not None
        assert self._ring is not None
        assert item.slot is not None
        with torch.cuda.stream(self._copies):
            on_gpu = type(item.target)(*(tensor.to(self.device, non_blocking=True) for tensor in item.target))
            item.slot.copied = torch.cuda.Event()
            item.slot.copied.record()
            if isinstance(on_gpu, Ragged):
                assert self.gpu_augment is not None
                how = self.gpu_augment
                crops = augment_ragged(on_gpu, len(item.wanted), self.options, how.mean_rgb, how.std_rgb, how.dtype)
            else:
                crops = on_gpu
            item.batch = Batch(*crops, keys)
            item.arrived = torch.cuda.Event()
            item.arrived.record()
        self._ring.append(item.slot)
