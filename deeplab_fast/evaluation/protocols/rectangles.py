"""Protocols whose network sees images as they are shaped, without padding: one size after another, not a square."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...ops import Decoding, normalise, resize_bilinear, upsample
from ...runtime import autocast
from ..protocol import aligns_corners
from .base import EvaluationProtocol, Image, Inputs, Machine, stack
from .recipe import view_parts


@dataclass(frozen=True)
class Rectangles(EvaluationProtocol):
    """Images of every scale, and their mirror images where ``flip``, as mmsegmentation sums them.

    Scores are resized to an image's own size, bilinearly, by the ``align_corners`` of the network's head; of several
    views the mean of the probabilities counts.
    """

    inputs: Inputs
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    memory_advice = "smaller images, fewer scales, --precision=bf16 or --protocol=slide"

    @property
    def decoding(self) -> Decoding:
        return self.inputs.decoding

    @abstractmethod
    def size_at(self, scale: float, height: int, width: int) -> tuple[int, int]:
        """Return the height and width at which an image of this size goes through the network."""

    def resize(self, image: Image, size: tuple[int, int]) -> Image:
        """Resize an image, uint8 ``[H, W, 3]``, to ``size`` (height, width)."""
        return image if image.shape[:2] == size else resize_bilinear(image, size)

    def see(self, image: Image) -> list[Image]:
        """Return every view of an image, uint8 ``[H, W, 3]``, each ``[h, w, 3]``."""
        height, width = image.shape[:2]
        return [self.resize(image, self.size_at(scale, height, width)) for scale in self.scales]

    @torch.inference_mode()
    def classes(self, machine: Machine, seen: Sequence[Any], targets: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Return the classes of a batch, uint8 ``[H, W]`` each; images of one size go through the network together."""
        found: dict[int, Tensor] = {}
        for group in self._alike(seen, targets):
            for begin in range(0, len(group), machine.at_once):
                part = group[begin : begin + machine.at_once]
                views = [stack(views, machine.device) for views in zip(*(seen[i] for i in part), strict=True)]
                found |= zip(part, self._batch(machine, views, targets[part[0]]), strict=True)
        return [found[i] for i in range(len(seen))]

    @staticmethod
    def _alike(seen: Sequence[Sequence[Image]], targets: Sequence[tuple[int, int]]) -> Iterator[list[int]]:
        """Yield the numbers of the images that have the same sizes."""
        groups: dict[Any, list[int]] = {}
        for i, (views, target) in enumerate(zip(seen, targets, strict=True)):
            groups.setdefault((target, *(view.shape for view in views)), []).append(i)
        yield from groups.values()

    def _batch(self, machine: Machine, views: Sequence[Tensor], target: tuple[int, int]) -> Tensor:
        """Return the classes, uint8 ``[N, H, W]``, of images of one size, ``views`` uint8 ``[N, h, w, 3]``."""
        several = len(views) > 1 or self.flip
        total: Tensor | None = None
        for view in views:
            for scores in self._mirrored(machine, view):
                found = resized(scores, target, aligns_corners(machine.model))
                found = found.softmax(1) if several else found
                total = found if total is None else total.add_(found)
        assert total is not None
        return total.argmax(1).to(torch.uint8)

    def _mirrored(self, machine: Machine, view: Tensor) -> Iterator[Tensor]:
        """Yield the scores of images ``[N, h, w, 3]`` at their size, ``[N, C, h, w]``, then of their mirror images."""
        n, height, width = view.shape[:3]
        extents = torch.tensor([[0, height, 0, width]] * n, dtype=torch.int32)
        there = (view.to(machine.device, non_blocking=True), extents.to(machine.device, non_blocking=True))
        x = normalise(*there, self.inputs.mean_rgb, self.inputs.std_rgb, torch.float32)
        yield self.scores(machine, x)
        if self.flip:
            yield self.scores(machine, x.flip(-1)).flip(-1)

    def scores(self, machine: Machine, x: Tensor) -> Tensor:
        """Return the network's scores of images ``[N, 3, h, w]`` at their size: fp32 ``[N, C, h, w]``."""
        return self.one_pass(machine, x)

    def one_pass(self, machine: Machine, x: Tensor) -> Tensor:
        """Run images ``[N, 3, h, w]`` through the network: their scores at their size, fp32 ``[N, C, h, w]``."""
        with autocast(self.inputs.precision, machine.device):
            logits = machine.model(x)
        return upsample(logits.float(), (x.shape[2], x.shape[3]), aligns_corners(machine.model))

    @property
    def name_parts(self) -> list[str]:
        return [self.name, *view_parts(self.scales, self.flip)]

    @property
    def largest(self) -> str:
        return f"one image by --protocol={self.name}"

    def details(self) -> dict[str, Any]:
        """Return the scales, and what is averaged over them."""
        views = {"views": "mean of the views' probabilities"} if len(self.scales) > 1 or self.flip else {}
        return {"scales": list(self.scales), "flip": self.flip, **views}


def resized(scores: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Resize scores ``[N, C, h, w]`` to ``[N, C, *size]``, or return them as they are where they have it."""
    return scores if scores.shape[-2:] == size else upsample(scores, size, align_corners)
