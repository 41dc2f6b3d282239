"""mmsegmentation's evaluation of VOC 2012: images within 2048 x 512, ratio kept, scores back at the image's size."""

from dataclasses import dataclass
from typing import Any

from .rectangles import Rectangles

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # of its multi-scale figures


@dataclass(frozen=True)
class MMSegmentation(Rectangles):
    """Each image as large as fits within ``within`` (long side, short side) times a scale; mode ``whole``.

    Sizes are rounded half up, as mmcv does.
    """

    within: tuple[int, ...] = (2048, 512)
    name = "mmseg"

    def size_at(self, scale: float, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) of a view of an image of this size."""
        long, short = (int(side * scale) for side in self.within)
        factor = min(long / max(height, width), short / min(height, width))
        return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))

    def details(self) -> dict[str, Any]:
        """Return sizes, interpolations and averages."""
        words = f"within {self._within}, ratio kept, bilinear; scores resized to the truth's own size, bilinear"
        return {"test_scale": list(self.within), "resize": words, **super().details()}

    @property
    def summary(self) -> str:
        return f"images within {self._within}, ratio kept; truth at its own size"

    @property
    def _within(self) -> str:
        return f"{self.within[0]} x {self.within[1]}"
