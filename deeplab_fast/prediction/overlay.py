"""An image with its classes over it: colours, outlines of regions, a legend."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .areas import count_pixels

BACKGROUND = 0
_LINES = 700  # an outline is so many times thinner than the picture's longest side
_SMALLEST_TEXT = 11  # pixels
_STRIP_PIXELS = 1 << 20  # drawn at a time, so that a large image needs little beside itself and its picture


@dataclass(frozen=True)
class Style:
    """The way classes are laid over an image.

    ``opacity`` of their colours from 0 to 1. ``clear``: class 0 stays as the image is. ``outlines``: the regions of all
    other classes have an edge of their full colour. ``legend``: colours and names stand below the picture.
    """

    opacity: float = 0.5
    clear: bool = True
    outlines: bool = True
    legend: bool = False


def draw_overlay(
    image: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    colours: NDArray[np.uint8],
    names: Sequence[str],
    style: Style,
    legend_of_all: bool = False,
) -> Image.Image:
    """Draw classes ``[H, W]`` over an image ``[H, W, 3]`` with the ``colours`` ``[256, 3]``, all uint8.

    ``legend_of_all``: a legend has all ``names``, those that do not occur too, so that all frames of a video have one
    size.
    """
    pixels = np.empty_like(image)
    thickness = max(1, round(max(classes.shape) / _LINES))
    height = max(thickness, _STRIP_PIXELS // classes.shape[1])
    for top in range(0, classes.shape[0], height):
        strip = slice(top, top + height)
        pixels[strip] = _blended(image[strip], classes[strip], colours, style)
        if style.outlines:
            first = max(0, top - thickness)  # an edge may come from as far as that beyond the strip
            edge = outlines(classes[first : top + height + thickness], thickness)[top - first :][:height]
            pixels[strip][edge] = colours[classes[strip][edge]]
    picture = Image.fromarray(pixels)
    if not style.legend:
        return picture
    all_names = range(len(names))
    present = all_names if legend_of_all else np.flatnonzero(count_pixels(classes, len(colours))).tolist()
    return _with_legend(picture, present, colours, names)


def _blended(
    image: NDArray[np.uint8], classes: NDArray[np.uint8], colours: NDArray[np.uint8], style: Style
) -> NDArray[np.uint8]:
    blend = np.array(Image.blend(Image.fromarray(image), Image.fromarray(colours[classes]), style.opacity))
    if style.clear:
        clear = classes == BACKGROUND
        blend[clear] = image[clear]
    return blend


def outlines(classes: NDArray[np.uint8], thickness: int) -> NDArray[np.bool_]:
    """Tell which pixels lie within ``thickness`` pixels of another class, class 0 left out: bool ``[H, W]``."""
    edge = np.zeros(classes.shape, bool)
    for (one, other), (to_one, to_other) in zip(_neighbours(classes), _neighbours(edge), strict=True):
        differs = one != other
        to_one |= differs
        to_other |= differs
    for _ in range(thickness - 1):
        grown = edge.copy()
        for (one, other), (to_one, to_other) in zip(_neighbours(edge), _neighbours(grown), strict=True):
            to_one |= other
            to_other |= one
        edge = grown
    return edge & (classes != BACKGROUND)


def _neighbours(a: NDArray[Any]) -> tuple[tuple[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]]:
    """Return views ``[H - 1, W]`` and ``[H, W - 1]`` of pixels and of those below, and to the right, of them."""
    return (a[:-1], a[1:]), (a[:, :-1], a[:, 1:])


def _with_legend(
    picture: Image.Image, present: Sequence[int], colours: NDArray[np.uint8], names: Sequence[str]
) -> Image.Image:
    """Return the picture with a line for each class below it, in as many columns as its width takes."""
    text = max(_SMALLEST_TEXT, picture.width // 50)
    font, line = _font(text), round(1.5 * text)
    labels = [names[c] if c < len(names) else str(c) for c in present]
    column = 3 * text + max(int(font.getlength(label)) for label in labels)
    columns = max(1, min(len(labels), picture.width // column))
    rows = -(-len(labels) // columns)
    whole = Image.new("RGB", (max(picture.width, column), picture.height + rows * line + text), "white")
    whole.paste(picture)
    draw = ImageDraw.Draw(whole)
    for i, (index, label) in enumerate(zip(present, labels, strict=True)):
        x, y = text // 2 + i % columns * column, picture.height + text // 2 + i // columns * line
        draw.rectangle((x, y, x + text, y + text), fill=tuple(colours[index].tolist()), outline="gray")
        draw.text((x + text + text // 2, y + text // 2), label, fill="black", font=font, anchor="lm")
    return whole


def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib  # its DejaVu Sans has the letters of more scripts, Pillow's own font of a few

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)
