"""An image's classes, and what is made of them when it is asked for."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import UserError
from ..evaluation.scored import ScoredImage
from ..storage.files import check_file, replace_file
from ..storage.image_files import save_image
from .areas import count_pixels
from .overlay import Style, draw_overlay


class Area(NamedTuple):
    """The pixels of a class, and their share of the image."""

    name: str
    pixels: int
    share: float


@dataclass(frozen=True, eq=False)
class Segmentation:
    """An image's classes, uint8 ``[H, W]``, at its own size, and the names of all classes by number.

    ``image`` uint8 ``[H, W, 3]``; ``colours`` uint8 ``[256, 3]``. Beside them it keeps the network's scores at their
    low resolution, a few bytes for each pixel of the image at most.
    """

    classes: NDArray[np.uint8]
    names: tuple[str, ...]
    image: NDArray[np.uint8] = field(repr=False)
    colours: NDArray[np.uint8] = field(repr=False)
    scored: ScoredImage = field(repr=False)
    kept: NDArray[np.float32] | None = field(default=None, repr=False)

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """Probability of each class at each pixel: fp32 ``[C, H, W]``.

        Computed anew from the scores each time, and not kept, unless the Segmenter was made with
        ``probabilities=True``. The largest is the pixel's class, but for ties within rounding.
        """
        return self.scored.probabilities() if self.kept is None else self.kept

    def overlay(
        self, opacity: float = 0.5, *, clear: bool = True, outlines: bool = True, legend: bool = False
    ) -> Image.Image:
        """Draw the classes over the image; see :class:`.overlay.Style`. A legend is added below it.

        Raises:
            UserError: the opacity is not between 0 and 1.
        """
        if not 0 <= opacity <= 1:
            raise UserError(f"opacity={opacity}: expected a number from 0 to 1")
        return draw_overlay(self.image, self.classes, self.colours, self.names, Style(opacity, clear, outlines, legend))

    def areas(self) -> list[Area]:
        """Count the pixels of every class, those that do not occur too, in the order of their numbers."""
        counts = count_pixels(self.classes, len(self.names)).tolist()
        return [Area(name, n, n / self.classes.size) for name, n in zip(self.names, counts, strict=True)]

    def save(self, path: str | Path) -> Path:
        """Write the classes as a palette PNG, or the probabilities (fp16 ``[C, H, W]``, and ``names``) as ``.npz``.

        Raises:
            UserError: the name ends otherwise, or the file cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() not in (".png", ".npz"):
            raise UserError(f"{path}: expected a name that ends in .png (classes) or .npz (probabilities)")
        check_file(path, str(path))
        with replace_file(path) as partial:
            if path.suffix.lower() == ".png":
                save_image(palette_image(self.classes, self.colours), partial)
            else:
                save_probabilities(partial, self.probabilities, self.names)
        return path


@dataclass(frozen=True, eq=False, kw_only=True)
class FrameSegmentation(Segmentation):
    """The classes of a video's frame: as of an image, and its ``number`` from 0 and its ``time`` in seconds."""

    number: int
    time: float


def palette_image(classes: NDArray[np.uint8], colours: NDArray[np.uint8]) -> Image.Image:
    """Return classes, uint8 ``[H, W]``, as an image with the palette ``colours``, uint8 ``[256, 3]``."""
    image = Image.fromarray(classes).convert("P")
    image.putpalette(colours.tobytes())
    return image


def save_probabilities(path: Path, probabilities: NDArray[np.float32], names: tuple[str, ...]) -> None:
    """Write ``probabilities`` ``[C, H, W]``, in fp16, and the classes' ``names`` as a compressed ``.npz``."""
    with path.open("wb") as file:  # a path would be given another ending
        np.savez_compressed(file, probabilities=probabilities.astype(np.float16), names=np.array(names))
