"""The recipe's evaluation: the longest side to the crop size, padded to a square; the truth is never resized."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ...config import EvalConfig, TrainConfig
from ...ops import Decoding
from ..protocol import Protocol, View, predictions, view_of
from ..windows import window_classes
from .base import EvaluationProtocol, Image, Machine, stack

_Views = list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Recipe(EvaluationProtocol):
    """The recipe's way, and larger images in blended windows where ``way`` has them."""

    way: Protocol
    name = "recipe"
    memory_advice = "a smaller --crop_size, fewer scales or --precision=bf16"

    @classmethod
    def of(cls, config: EvalConfig) -> "Recipe":
        return cls(Protocol.of(config, config.precision, config.scales, config.flip).in_windows(config))

    @property
    def decoding(self) -> Decoding:
        return self.way.decoding

    def see(self, image: Image) -> _Views | Image:
        """Return every scale of an image, uint8 ``[H, W, 3]``, or the image as it is where it is for windows."""
        if self.way.is_windowed(image.shape[:2]):
            return image
        return [view_of(image, size) for size in self.way.sizes]

    def classes(self, machine: Machine, seen: Sequence[Any], targets: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Return the classes of a batch, uint8 ``[H, W]`` each: whole images together, those in windows alone."""
        whole = [(views, target) for views, target in zip(seen, targets, strict=True) if isinstance(views, list)]
        together = iter(self._whole(machine, *zip(*whole, strict=True)) if whole else [])
        return [
            next(together)
            if isinstance(views, list)
            else window_classes(machine.model, views, self.way, machine.device, machine.at_once)
            for views in seen
        ]

    def _whole(self, machine: Machine, scales: Sequence[_Views], targets: Sequence[tuple[int, int]]) -> list[Tensor]:
        views = []
        for scale in zip(*scales, strict=True):
            squares, extents = zip(*scale, strict=True)
            views.append(View(stack(squares, machine.device), stack(extents, machine.device)))
        return predictions(machine.model, views, targets, self.way, machine.device, machine.fused, machine.at_once)

    def details(self) -> dict[str, Any]:
        """Return sizes, interpolations and averages."""
        way = self.way
        words = "images larger than it in windows, each as an image of its own, blended by squared sines"
        windows = {"window": way.window, "overlap": way.overlap, "windows": words} if way.window else {}
        return {
            "crop_size": way.crop_size,
            "resize": "longest side to crop_size, bilinear; padded to a square; truth at its own size",
            "scales": list(way.scales),
            "flip": way.flip,
            **windows,
        }

    @property
    def summary(self) -> str:
        """The sizes, on one line."""
        windows = f"; larger images in windows of {self.way.window}, blended" if self.way.window else ""
        return f"longest side to {self.way.crop_size}, padded to a square; truth at its own size{windows}"

    @property
    def name_parts(self) -> list[str]:
        return view_parts(self.way.scales, self.way.flip) + ([f"window{self.way.window}"] if self.way.window else [])

    @property
    def largest(self) -> str:
        """The padded square of the largest scale, in words."""
        side = max(self.way.sizes)
        return f"one image of {side} x {side} pixels"


def recipe_of(config: TrainConfig) -> Recipe:
    """Return the protocol of a run's own evaluations: one scale, no mirror images."""
    return Recipe(Protocol.of(config, config.precision))


def view_parts(scales: Sequence[float], flip: bool) -> list[str]:
    """Return what a file's name has for several scales and for mirror images."""
    return (["ms"] if len(scales) > 1 else []) + (["flip"] if flip else [])
