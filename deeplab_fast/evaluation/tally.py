"""The counts of an evaluation: one confusion matrix and, where they are asked for, each image's and the boundaries'."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..ops import ConfusionCounter
from .boundary import boundary_counts
from .metrics import Scores
from .per_image import ImageCounts
from .settings import Settings

_MATRICES = 1 << 22  # numbers of matrices that wait, 32 MB
_IMAGES = 256


class Tally:
    """Counts of one process, batch by batch. Waits for a GPU once in some hundred images, or for boundaries."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        classes = settings.num_classes
        self._together = self._counter()
        self._waiting: list[tuple[int, ConfusionCounter]] = []
        self._most_waiting = max(1, min(_IMAGES, _MATRICES // classes**2))
        self._confusion = np.zeros((classes, classes), np.int64)
        self._images = [ImageCounts.of([], np.zeros((0, classes, classes), np.int64))]
        self._boundary = np.zeros((classes, 3), np.int64)

    def _counter(self) -> ConfusionCounter:
        return ConfusionCounter(self.settings.num_classes, self.settings.ignore_label, self.settings.device)

    def add(self, samples: Sequence[int], truths: Sequence[NDArray[np.uint8]], classes: Sequence[Tensor]) -> None:
        """Count a batch: truths and found classes, both uint8 ``[H, W]``, of the samples of these numbers."""
        flat = _flat(truths, self.settings.device).to(self.settings.device, non_blocking=True)
        if not self.settings.per_image:
            self._together.add(flat, torch.cat([found.reshape(-1) for found in classes]))
        else:
            for sample, truth, found in zip(samples, flat.split([t.size for t in truths]), classes, strict=True):
                counter = self._counter()
                counter.add(truth, found.reshape(-1))
                self._waiting.append((sample, counter))
                if len(self._waiting) == self._most_waiting:
                    self._settle()
        if self.settings.boundary:
            for label, found in zip(truths, classes, strict=True):
                s = self.settings
                self._boundary += boundary_counts(label, found.cpu().numpy(), s.num_classes, s.ignore_label)

    def _settle(self) -> None:
        if self._waiting:
            matrices = np.stack([counter.total().cpu().numpy() for _, counter in self._waiting])
            self._confusion += matrices.sum(0)
            self._images.append(ImageCounts.of([sample for sample, _ in self._waiting], matrices))
            self._waiting.clear()

    def scores(self, images: int, skipped: Sequence[str]) -> Scores:
        """Return the scores of all processes' counts: of ``images`` images, without those ``skipped``."""
        self._settle()
        world = self.settings.world
        counts = self._together.total() + torch.from_numpy(self._confusion).to(self.settings.device)
        confusion = world.sum(counts).cpu().numpy()
        counted, boundary = None, None
        if self.settings.per_image:
            counted = ImageCounts.joined(world.gather(ImageCounts.joined(self._images)))
        if self.settings.boundary:
            boundary = np.sum(world.gather(self._boundary), axis=0)
        return Scores(confusion, images, tuple(skipped), counted, boundary)


def _flat(labels: Sequence[NDArray[np.uint8]], device: torch.device) -> Tensor:
    """Concatenate uint8 labels ``[H, W]`` of any sizes on the host: ``[pixels]``."""
    out = torch.empty(sum(label.size for label in labels), dtype=torch.uint8, pin_memory=device.type == "cuda")
    np.concatenate([label.reshape(-1) for label in labels], out=out.numpy())
    return out
