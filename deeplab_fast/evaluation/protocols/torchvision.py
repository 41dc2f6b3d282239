"""torchvision's evaluation (references/segmentation): image and truth resized to a shorter side of 520 pixels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image

from ...errors import UserError
from .base import Image
from .rectangles import Rectangles


@dataclass(frozen=True)
class Torchvision(Rectangles):
    """Pillow resizes: the image bilinearly, with a filter as wide as it shrinks, the truth to the nearest pixel.

    The longer side is truncated. One view; classes are compared with the truth at the resized size.
    """

    base_size: int = 520
    name = "torchvision"
    memory_advice = "a smaller --base_size or --precision=bf16"

    def size_at(self, scale: float, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) of a view of an image of this size."""
        if height < width:
            return self.base_size, int(self.base_size * width / height)
        return int(self.base_size * height / width), self.base_size

    def see(self, image: Image) -> list[Image]:
        """Return the one view of an image, uint8 ``[H, W, 3]``: ``[h, w, 3]``.

        Raises:
            UserError: it is so narrow that it would be larger than ``--max_pixels``.
        """
        height, width = self.size_at(1.0, *image.shape[:2])
        if height * width > self.decoding.max_pixels:
            raise UserError(
                f"{width}x{height} pixels with a shorter side of {self.base_size}; expected at most"
                f" {self.decoding.max_pixels} (--max_pixels)"
            )
        return super().see(image)

    def resize(self, image: Image, size: tuple[int, int]) -> Image:
        """Resize an image, uint8 ``[H, W, 3]``, to ``size`` (height, width), bilinearly, as Pillow does."""
        return _resize(image, size, PIL.Image.Resampling.BILINEAR)

    def truth(self, label: Image) -> Image:
        """Return a label, uint8 ``[H, W]``, at the size that the network's scores have: ``[H', W']``."""
        height, width = label.shape
        return _resize(label, self.size_at(1.0, height, width), PIL.Image.Resampling.NEAREST)

    def details(self) -> dict[str, Any]:
        """Return sizes, interpolations and averages."""
        words = "shorter side to base_size: image bilinear with antialiasing, truth nearest, both by Pillow"
        return {"base_size": self.base_size, "resize": words, **super().details()}

    @property
    def summary(self) -> str:
        return f"shorter side of image and truth to {self.base_size}; compared at that size"


def _resize(array: Image, size: tuple[int, int], how: PIL.Image.Resampling) -> Image:
    return np.array(PIL.Image.fromarray(array).resize(size[::-1], how))
