"""Batches from a source, decoded and augmented in an order fixed by the seed.

A batch is a function of (seed, step): the permutation of an epoch and every augmentation draw come
from counters, so any number of threads gives the same batches and training can start at any step.
Here it is decided who makes them: native threads or the reference, the CPU or the GPU.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch

from deeplab_fast.errors import UserError
from deeplab_fast.ops import extension

from .dataset import BadSamples, Batch, TrainingSet
from .native_loader import GpuAugment, NativeLoader
from .reference_loader import ReferenceLoader
from .schedule import Schedule

_TRIAL_S = 1.0


@dataclass(frozen=True)
class LoaderOptions:
    """Options of how batches are made; what they hold does not depend on them.

    ``augment_on`` is auto, cpu or gpu; ``gpu_augment`` is how a GPU would augment.
    """

    device: torch.device = torch.device("cpu")  # noqa: RUF009 (immutable)
    threads: int = 2
    augment_on: str = "cpu"
    gpu_augment: GpuAugment | None = None
    bad: BadSamples = field(default_factory=BadSamples)


@dataclass(frozen=True)
class Loader:
    """Makes batches; ``plan`` says how, in one line."""

    dataset: TrainingSet
    schedule: Schedule
    options: LoaderOptions
    plan: str
    on_gpu: bool

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield this process's batches ``start`` up to ``stop``, counted over all epochs, prefetched, on the device.

        Raises:
            UserError: a sample cannot be used; names its file.
        """
        options = self.options
        epoch = self.schedule.batches(start, min(stop, start + self.schedule.batches_per_epoch))
        self.dataset.source.expect(index for batch in epoch for _, index in batch)
        if extension.decoder()[0] is not None:
            gpu_augment = options.gpu_augment if self.on_gpu else None
            loader = NativeLoader(
                self.dataset, self.schedule, options.threads, options.device, options.bad, gpu_augment
            )
            yield from loader.batches(start, stop)
        else:
            reference = ReferenceLoader(self.dataset, self.schedule, options.threads, options.bad)
            for batch in reference.batches(start, stop):
                yield batch.to(options.device)


def open_loader(dataset: TrainingSet, schedule: Schedule, options: LoaderOptions) -> Loader:
    """Choose where to augment, and return the loader; ``auto`` measures both where there is a choice.

    Raises:
        UserError: the GPU is asked to augment and cannot; says why.
    """
    reason = _no_gpu(options)
    if options.augment_on == "gpu" and reason:
        raise UserError(f"--augment_on=gpu: {reason}")
    native, missing = extension.decoder()
    who = f"{options.threads} native threads" if native is not None else f"{options.threads} Python threads ({missing})"
    if options.threads == 0:
        who = f"{'native' if native is not None else f'Python ({missing})'} loops in the main thread"
    loaders = {
        on_gpu: Loader(dataset, schedule, options, f"{who}, augmentation on the {'GPU' if on_gpu else 'CPU'}", on_gpu)
        for on_gpu in (False, True)
    }
    if options.augment_on != "auto" or reason:
        return loaders[options.augment_on == "gpu"]
    rates = {on_gpu: _rate(loader) for on_gpu, loader in loaders.items()}
    better = rates[True] > rates[False]
    measured = f"measured: CPU {rates[False]:,.0f}, GPU {rates[True]:,.0f} images/s"
    return Loader(dataset, schedule, options, f"{loaders[better].plan} ({measured})", better)


def _no_gpu(options: LoaderOptions) -> str:
    """Return why the GPU cannot augment here, or nothing."""
    if options.device.type != "cuda":
        return "training does not run on a CUDA GPU"
    if options.gpu_augment is None:
        return "the batches are wanted as they are"
    return extension.decoder()[1] or extension.cuda_on(options.device)[1]


def _rate(loader: Loader) -> float:
    """Measure images a second, nothing else being done, over about a second; 0 where it cannot be done.

    Bad samples end the trial, uncounted: training will meet them in their turn.
    """
    loader = replace(loader, options=replace(loader.options, bad=BadSamples()))
    schedule = loader.schedule
    batches = loader.batches(0, schedule.batches_per_epoch)
    images, start = 0, 0.0
    try:
        for batch in batches:
            torch.cuda.synchronize(loader.options.device)
            now = time.perf_counter()
            if not start:  # the first batch starts the threads and allocates
                start = now
                continue
            images += len(batch.keys)
            if now - start > _TRIAL_S:
                break
    except UserError:
        pass  # what came before it counts
    except RuntimeError:
        return 0.0
    finally:
        batches.close()  # type: ignore[attr-defined]
    return images / max(time.perf_counter() - start, 1e-9)
