"""mmsegmentation's sliding windows over images of their own size: the mean of the scores where windows overlap.

Another way than the blended windows of ``--window`` (``evaluation/windows.py``): windows are not resized, the last of a
row is moved back to the edge, and scores are averaged with equal weights, not probabilities by a smooth one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .base import Machine
from .whole import Whole


@dataclass(frozen=True)
class Slide(Whole):
    """Windows of ``crop`` pixels a side every ``stride`` pixels, or one as large as the image where that is smaller."""

    crop: int = 513
    stride: int = 342
    name = "slide"
    memory_advice = "a smaller --crop_size, smaller images, fewer scales or --precision=bf16"

    def scores(self, machine: Machine, x: Tensor) -> Tensor:
        """Return the mean scores of images ``[N, 3, h, w]`` at their size: fp32 ``[N, C, h, w]``."""
        height, width = min(self.crop, x.shape[2]), min(self.crop, x.shape[3])
        total: Tensor | None = None
        count = x.new_zeros(x.shape[2:])
        corners = [(top, left) for top in self.starts(x.shape[2]) for left in self.starts(x.shape[3])]
        most = max(1, machine.at_once // len(x))
        for begin in range(0, len(corners), most):
            part = corners[begin : begin + most]
            windows = torch.cat([x[..., top : top + height, left : left + width] for top, left in part])
            found = self.one_pass(machine, windows)
            if total is None:
                total = found.new_zeros(len(x), found.shape[1], *x.shape[2:])
            for (top, left), scores in zip(part, found.split(len(x)), strict=True):
                total[..., top : top + height, left : left + width] += scores
                count[top : top + height, left : left + width] += 1
        assert total is not None
        return total.div_(count)

    def starts(self, length: int) -> Iterator[int]:
        """Yield where the windows along a side of ``length`` pixels begin; the last ends at its end."""
        windows = max(0, -(-(length - self.crop) // self.stride)) + 1
        return (max(0, min(i * self.stride, length - self.crop)) for i in range(windows))

    def details(self) -> dict[str, Any]:
        """Return sizes, interpolations and averages."""
        words = "mean of the windows' scores where they overlap, then softmax"
        return {**super().details(), "crop_size": self.crop, "stride": self.stride, "windows": words}

    @property
    def summary(self) -> str:
        return f"windows of {self.crop} every {self.stride} pixels, scores averaged; images and truth at their own size"

    @property
    def largest(self) -> str:
        return f"one window of {self.crop} x {self.crop} pixels and the scores of one image"
