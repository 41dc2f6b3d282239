"""Images at their own size, nothing resized or padded: the network takes any size."""

from dataclasses import dataclass
from typing import Any

from .rectangles import Rectangles


@dataclass(frozen=True)
class Whole(Rectangles):
    """Each image at its own size, or that size times a scale, rounded half up."""

    name = "whole"

    def size_at(self, scale: float, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) of a view of an image of this size."""
        if scale == 1:
            return height, width
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))

    def details(self) -> dict[str, Any]:
        return {"resize": "none: images and truth at their own size", **super().details()}

    @property
    def summary(self) -> str:
        return "images and truth at their own size"
