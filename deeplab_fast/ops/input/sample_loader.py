"""Encoded samples to batches in native threads: decode, check, augment; and the GPU's half of it.

Threads make one of two kinds of batch from jobs (where the bytes are, and what was drawn): whole crops, or the decoded
pixels that the crops need, one behind the other, which :func:`augment_ragged` augments in one launch on the GPU. Both
give the same bits.
"""

import itertools
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import extension
from .batch_memory import BatchMemory
from .decoding import DEFAULT_DECODING, MAX_PIXELS, Decoding
from .normalise import normalise


class CropOptions(NamedTuple):
    """Options that are the same for every sample's crop; ``csrc/core/crop.h``."""

    crop_size: int
    min_scale: float
    max_scale: float
    bicubic: bool
    ignore_label: int


class Jobs(NamedTuple):
    """Samples to load, a row for each.

    ``extracts`` int64 ``[N, 8]``: file, offset, size and CRC-32 of the image's bytes, then of the label's (size -1: all
    of the file; CRC-32 -1: not known). ``draws`` float64 ``[N, 4]``: scale, top, left, flip, each in [0, 1).
    ``colours`` int32 ``[N, 12]``, the rows of :func:`~deeplab_fast.ops.apply_colour`'s matrices, or ``[0, 12]`` for
    none.
    """

    extracts: NDArray[np.int64]
    draws: NDArray[np.float64]
    colours: NDArray[np.int32]


class Failure(NamedTuple):
    """A sample that could not be loaded: its place in the batch; ``fault`` is image, label, size or value."""

    place: int
    fault: str
    text: str


class Crops(NamedTuple):
    """``images`` uint8 ``[N, S, S, 3]``, ``labels`` uint8 ``[N, S, S]``, ``extents`` int32 ``[N, 4]``."""

    images: Tensor
    labels: Tensor
    extents: Tensor


class Ragged(NamedTuple):
    """Source pixels of a batch: uint8 ``images`` and ``labels``, and ``samples`` that says what lies where."""

    images: Tensor
    labels: Tensor
    samples: Tensor


def missing() -> str:
    """Return why there is no native loader here, or nothing."""
    return extension.decoder()[1]


def ragged_room(options: CropOptions, scales: NDArray[np.float64], max_pixels: int = MAX_PIXELS) -> NDArray[np.int64]:
    """Lay out the samples' pixels: offset and room of the image, then of the label, int64 ``[N, 4]``.

    A crop reads at most ``(crop_size + 1) / scale`` source pixels a side, and a few at the border.
    """
    scale = options.min_scale + (options.max_scale - options.min_scale) * scales
    side = np.minimum(np.ceil((options.crop_size + 1) / scale) + 6, max_pixels).astype(np.int64)
    pixels = np.minimum(side * side, max_pixels)  # no image has more
    starts = np.cumsum(pixels) - pixels
    return np.stack([3 * starts, 3 * pixels, starts, pixels], axis=1)


class SampleLoader:
    """A pool of native threads; with ``threads=0`` the work is done in :meth:`wait`.

    Args:
        files: paths that jobs name by number; those of which jobs want parts stay open.
        num_classes: a label value beyond it, other than the ignore label, is a failure.
        decoding: how images are turned and how large they may be.
        stamps: of each file its bytes and when it was written (ns) as its parts were found; a part without a checksum
            is refused where they are others now. None: as each file is at its first use.
    """

    def __init__(
        self,
        files: list[str],
        options: CropOptions,
        num_classes: int,
        threads: int,
        decoding: Decoding = DEFAULT_DECODING,
        stamps: Sequence[tuple[int, int]] = (),
    ) -> None:
        native, reason = extension.decoder()
        if native is None:
            raise RuntimeError(f"no native loader: {reason}")
        self.options = options
        self._native = native
        self._memory = BatchMemory(native)
        self._loader = native.Loader(
            files=[os.fsencode(name) for name in files],
            stamps=list(stamps),
            classes=num_classes,
            threads=threads,
            **options._asdict(),
            **decoding._asdict(),
        )

    def submit(
        self,
        jobs: Jobs,
        target: Crops | Ragged,
        places: list[int] | None = None,
        decoded: Sequence[NDArray[np.uint8]] = (),
    ) -> int:
        """Begin to load; job ``i`` becomes sample ``places[i]`` (default ``i``). Returns a ticket for :meth:`wait`.

        ``decoded``: each job's image uint8 ``[H, W, 3]``, decoded already and turned; none where the files are read.
        """
        images = [np.ascontiguousarray(image) for image in decoded]
        ticket: int = self._loader.submit(
            extracts=jobs.extracts,
            draws=jobs.draws,
            colours=jobs.colours,
            places=list(range(len(jobs.draws))) if places is None else places,
            images=target.images.data_ptr(),
            labels=target.labels.data_ptr(),
            extents=target.extents.data_ptr() if isinstance(target, Crops) else 0,
            samples=target.samples.data_ptr() if isinstance(target, Ragged) else 0,
            decoded=images,
            memory=(target, images),
        )
        return ticket

    def done(self, ticket: int) -> bool:
        """Tell whether :meth:`wait` would return at once."""
        return bool(self._loader.done(ticket))

    def wait(self, ticket: int) -> list[Failure]:
        """Wait until all jobs of a ticket are done; those that failed wrote nothing.

        Raises:
            MemoryError: there was not enough for one.
        """
        while (failures := self._loader.wait(ticket, 0.2)) is None:
            pass  # back in Python now and then, for Ctrl-C
        found = [Failure(*failure) for failure in failures]
        if any(failure.fault == "memory" for failure in found):
            raise MemoryError("decoding a sample")
        return found

    def seconds(self) -> dict[str, float]:
        """Return the seconds that all threads together spent so far, by stage."""
        return dict(zip(("read", "decode image", "decode label", "augment"), self._loader.spent(), strict=True))

    def close(self) -> None:
        """Drop what is not begun and wait for what is."""
        self._loader = None

    def new_crops(self, count: int, pin: bool = False) -> Crops:
        """Allocate a batch of ``count`` crops."""
        side = self.options.crop_size
        pixels = count * side * side
        starts = [0, 3 * pixels, 4 * pixels, 4 * pixels + 16 * count]
        memory = torch.empty(starts[-1], dtype=torch.uint8, pin_memory=True) if pin else self._memory.take(starts[-1])
        images, labels, extents = (memory[a:b] for a, b in itertools.pairwise(starts))
        return Crops(
            images.view(count, side, side, 3), labels.view(count, side, side), extents.view(torch.int32).view(count, 4)
        )

    def new_ragged(self, room: NDArray[np.int64], pin: bool = False, old: Ragged | None = None) -> Ragged:
        """Allocate a batch with this :func:`ragged_room` ``[N, 4]``, or take ``old`` again if it is enough."""
        images, labels = (int(room[-1, k] + room[-1, k + 1]) for k in (0, 2))
        table = len(room) * self._native.SAMPLE_BYTES
        if old is None or len(old.images) < images or len(old.samples) < table:
            old = Ragged(*(torch.empty(n, dtype=torch.uint8, pin_memory=pin) for n in (images, labels, table)))
        self._native.write_samples(old.samples.data_ptr(), room)
        return old


def augment_ragged(
    batch: Ragged,
    count: int,
    options: CropOptions,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    dtype: torch.dtype = torch.float32,
) -> Crops:
    """Augment a ragged batch: resample, flip, distort, pad and normalise; on a GPU in one launch.

    Args:
        batch: on any device.
        mean, std: per channel in RGB order, on the 0-255 scale; not used where ``dtype`` is uint8.
        dtype: of the images: uint8 as they are, or normalised bf16, fp16 or fp32.

    Returns:
        Images ``[N, S, S, 3]``, labels and extents as :class:`Crops`; every device gives the same bits.

    Raises:
        RuntimeError: the batch is on a GPU and the extension has no CUDA part, or CUDA refuses; says which.
    """
    device, side = batch.images.device, options.crop_size
    native, reason = extension.cuda_on(device) if device.type == "cuda" else extension.load()
    if native is None:
        raise RuntimeError(f"cannot augment on {device}: {reason}")
    on_gpu = device.type == "cuda"
    images = torch.empty(count, side, side, 3, dtype=dtype if on_gpu else torch.uint8, device=device)
    labels = torch.empty(count, side, side, dtype=torch.uint8, device=device)
    extents = torch.empty(count, 4, dtype=torch.int32, device=device)
    shared = {
        "images": batch.images.data_ptr(),
        "labels": batch.labels.data_ptr(),
        "samples": batch.samples.data_ptr(),
        "count": count,
        "crop_size": side,
        "bicubic": options.bicubic,
        "ignore_label": options.ignore_label,
        "out_images": images.data_ptr(),
        "out_labels": labels.data_ptr(),
        "extents": extents.data_ptr(),
    }
    if on_gpu:
        with torch.cuda.device(device):
            native.augment_cuda(
                **shared,
                mean=mean,
                std=std,
                type=str(dtype).removeprefix("torch."),
                stream=torch.cuda.current_stream(device).cuda_stream,
            )
        return Crops(images, labels, extents)
    native.augment_ragged(**shared)
    if dtype != torch.uint8:
        images = normalise(images, extents, mean, std, dtype).permute(0, 2, 3, 1)
    return Crops(images, labels, extents)
