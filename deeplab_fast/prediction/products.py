"""The files that ``--save`` makes of an image, beside its classes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..errors import UserError
from ..storage.image_files import save_image
from .batches import Segmented
from .overlay import Style, draw_overlay
from .segmentation import palette_image, save_probabilities

JPEG_MAX_SIDE = 65500  # libjpeg's

Writer = Callable[[Path, PngInfo], None]  # of a file of that name; a PNG also holds the text


@dataclass(frozen=True)
class Products:
    """The way from scores to files: the kinds of files ``beside`` its classes, their colours and names.

    ``colours`` uint8 ``[256, 3]``; ``of_class`` is the one whose probability is wanted.
    """

    beside: tuple[str, ...]
    style: Style
    colours: NDArray[np.uint8]
    names: tuple[str, ...]
    of_class: int = 0

    def of(self, found: Segmented) -> "Finished":
        """Draw and compute all that is written of an image.

        Raises:
            UserError: it is too large for a JPEG; names the file.
        """
        made = {kind: getattr(self, f"_{kind}")(found) for kind in self.beside}
        return Finished(found.loaded.digest, self.mask(found), made)

    def mask(self, found: Segmented) -> Image.Image:
        """Return the classes as a picture with their palette."""
        return palette_image(found.classes, self.colours)

    def frame_overlay(self, found: Segmented) -> NDArray[np.uint8]:
        """Draw a frame of a video with its classes, uint8 ``[H, W, 3]``; a legend is the same below all of them."""
        image = found.loaded.image
        return np.asarray(draw_overlay(image, found.classes, self.colours, self.names, self.style, legend_of_all=True))

    def _overlay(self, found: Segmented) -> Writer:
        where = str(found.loaded.item.path)
        check_jpeg(found.classes.shape[1], found.classes.shape[0], where)
        picture = draw_overlay(found.loaded.image, found.classes, self.colours, self.names, self.style)
        check_jpeg(*picture.size, where)
        return lambda path, text: save_image(picture, path, quality=92)

    def _probabilities(self, found: Segmented) -> Writer:
        probabilities = found.scored.probabilities()
        return lambda path, text: save_probabilities(path, probabilities, self.names)

    def _probability(self, found: Segmented) -> Writer:
        pixels = np.rint(255 * found.scored.probabilities(self.of_class)[0]).astype(np.uint8)
        return partial(_save_png, Image.fromarray(pixels))


@dataclass(frozen=True)
class Finished:
    """The digest of an image file, its classes with their palette, and who writes the other files, by kind."""

    digest: str
    mask: Image.Image
    beside: dict[str, Writer]


def check_jpeg(width: int, height: int, where: str) -> None:
    """Raise :class:`UserError`, which begins with ``where``, where a picture is too large for a JPEG."""
    if max(width, height) > JPEG_MAX_SIDE:
        size = f"{width}x{height} pixels"
        raise UserError(f"{where}: {size}; a JPEG has at most {JPEG_MAX_SIDE} a side, expected --overlay=0")


def _save_png(image: Image.Image, path: Path, text: PngInfo) -> None:
    save_image(image, path, pnginfo=text)
