"""The way of batches to a GPU. Without one, its logic: slots, events, order; streams and pinned memory have stand-ins.

The stand-ins check the protocol: a slot is not written to before its copy was waited for.
"""

import contextlib
from collections import deque

import pytest
import torch

from deeplab_fast.data import native_loader
from deeplab_fast.data.augment import Augment
from deeplab_fast.data.dataset import BadSamples, TrainingSet
from deeplab_fast.data.native_loader import GpuAugment, NativeLoader
from deeplab_fast.data.schedule import Schedule
from deeplab_fast.data.sources import list_source
from deeplab_fast.ops import extension, normalise
from deeplab_fast.ops.input.sample_loader import SampleLoader

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(extension.decoder()[0] is None, reason=f"no native loader: {extension.decoder()[1]}"),
]

CPU = torch.device("cpu")
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@pytest.fixture
def dataset(builtin):
    return TrainingSet(list_source(builtin, builtin / "train.txt"), Augment(65, 0.5, 2.0, 255), 6, seed=3)


class Event:
    """Recorded where a copy was begun; waited for before its slot is used again."""

    recorded = waited = False

    def record(self):
        self.recorded = True

    def synchronize(self):
        assert self.recorded
        self.waited = True


class Stream:
    def wait_event(self, event):
        assert event.recorded


def as_if_on_gpu(loader, monkeypatch):
    """The loader with a ring of slots in ordinary memory."""
    for name in ("new_crops", "new_ragged"):
        method = getattr(SampleLoader, name)

        def unpinned(self, first, pin=False, *rest, method=method):
            return method(self, first, False, *rest)

        monkeypatch.setattr(SampleLoader, name, unpinned)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: None)
    real = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *a, **k: real(self, *a, **k).clone())  # a copy, as to a GPU
    loader._on_gpu, loader._copies = True, Stream()
    slots = [native_loader._Slot() for _ in range(native_loader._BATCHES_AHEAD + 1)]
    loader._ring = deque(slots)
    submit = loader.samples.submit

    def checked_submit(jobs, target, *rest):
        slot = next(slot for slot in slots if slot.memory is target)
        if slot.copied is not None:
            assert slot.copied.waited, "written to while it may still be copied"
            reused.append(slot)
        return submit(jobs, target, *rest)

    reused = loader.reused = []
    loader.samples.submit = checked_submit
    return loader


@pytest.mark.parametrize("gpu_augment", [None, GpuAugment(MEAN, STD, torch.float32)], ids=["crops", "ragged"])
@pytest.mark.parametrize("threads", [0, 2])
def test_batches_through_the_ring_are_the_same(dataset, gpu_augment, threads, monkeypatch):
    schedule = Schedule(24, 5, 3)
    expected = list(NativeLoader(dataset, schedule, 0, CPU, BadSamples()).batches(0, 12))
    loader = as_if_on_gpu(NativeLoader(dataset, schedule, threads, CPU, BadSamples(), gpu_augment), monkeypatch)
    found = list(loader.batches(0, 12))
    assert len(loader.reused) == 12 - 4  # every slot that was used before
    for a, b in zip(found, expected, strict=True):
        assert a.keys == b.keys
        assert torch.equal(a.labels, b.labels)
        assert torch.equal(a.extents, b.extents)
        images = b.images
        if gpu_augment is not None:
            images = normalise(b.images, b.extents, MEAN, STD, torch.float32).permute(0, 2, 3, 1)
        assert torch.equal(a.images, images)


@pytest.mark.skipif(not (extension.cuda()[0] and torch.cuda.is_available()), reason="no CUDA GPU, or no CUDA part")
@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16])
def test_batches_on_a_gpu_are_the_same(dataset, dtype):
    schedule = Schedule(24, 5, 3)
    expected = list(NativeLoader(dataset, schedule, 0, CPU, BadSamples()).batches(0, 12))
    gpu_augment = None if dtype is None else GpuAugment(MEAN, STD, dtype)
    loader = NativeLoader(dataset, schedule, 2, torch.device("cuda"), BadSamples(), gpu_augment)
    for a, b in zip(loader.batches(0, 12), expected, strict=True):
        images = b.images if dtype is None else normalise(b.images, b.extents, MEAN, STD, dtype).permute(0, 2, 3, 1)
        assert a.images.is_cuda
        assert torch.equal(a.images.cpu(), images)
        assert torch.equal(a.labels.cpu(), b.labels)
        assert torch.equal(a.extents.cpu(), b.extents)
