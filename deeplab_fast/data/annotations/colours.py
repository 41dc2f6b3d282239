"""Masks whose classes are colours, and the palettes that say which."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeplab_fast.data.lists import read_lines
from deeplab_fast.data.sources import read_bytes
from deeplab_fast.errors import UserError
from deeplab_fast.ops import Decoding, decode_image, decode_mask

from .label_set import ImageLabel, Label, LabelSet
from .numbering import IGNORED, check_names

EXPECTED = "lines 'R G B name' or '#rrggbb name'"
_LINE = re.compile(r"(?:#(?P<hex>[0-9a-fA-F]{6})|(?P<rgb>\d{1,9}[,\s]+\d{1,9}[,\s]+\d{1,9}))[,\s]+(?P<name>\S.*)")
_NO_CLASS = -1

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Palette:
    """Class ``names`` in the order of their numbers, and the number of each colour; ignored colours have the label's.

    ``numbers`` are kept by red * 65536 + green * 256 + blue.
    """

    names: list[str]
    numbers: dict[int, int]
    table: NDArray[np.int16] = field(repr=False)


def read_palette(path: Path, ignore_label: int) -> Palette:
    """Read a palette file: a line for each colour, the order of the names the number; ``__ignore__`` is no class.

    Raises:
        UserError: no readable text, a line that is no such one, or a colour with two classes.
    """
    entries: list[tuple[Colour, str]] = []
    for number, line in enumerate(read_lines(path, EXPECTED), 1):
        text = line.strip()
        match = _LINE.fullmatch(text)
        if match is None:
            if not text or text.startswith("#"):
                continue
            raise UserError(f"{path}, line {number}: {text[:60]!r}; expected {EXPECTED}")
        name = re.split(r"\s#", match["name"], maxsplit=1)[0].strip()
        colour = _colour(match)
        if max(colour) > 255:
            raise UserError(f"{path}, line {number}: {max(colour)}; expected colours of 0 to 255")
        entries.append((colour, name))
    return make_palette(entries, ignore_label, str(path))


def _colour(match: re.Match[str]) -> Colour:
    if match["hex"]:
        value = int(match["hex"], 16)
        return value >> 16, value >> 8 & 255, value & 255
    red, green, blue = (min(int(word), 256) for word in re.split(r"[,\s]+", match["rgb"]))
    return red, green, blue


def make_palette(entries: Sequence[tuple[Colour, str]], ignore_label: int, where: str) -> Palette:
    """Make a palette of colours and names; colours of one name are one class, those of ``__ignore__`` do not count.

    Raises:
        UserError: no class, a colour with two, or the ignore label would be a class; begins with ``where``.
    """
    names = list(dict.fromkeys(name for _, name in entries if name != IGNORED))
    if not names:
        raise UserError(f"{where}: no class; expected {EXPECTED}")
    check_names(names, ignore_label, where)
    numbers: dict[int, int] = {}
    table = np.full(1 << 24, _NO_CLASS, np.int16)
    for (red, green, blue), name in entries:
        value = ignore_label if name == IGNORED else names.index(name)
        code = red << 16 | green << 8 | blue
        if numbers.setdefault(code, value) != value:
            raise UserError(f"{where}: colour {red} {green} {blue} has two classes; expected one, also {name!r}")
        table[code] = value
    return Palette(names, numbers, table)


def read_colours(
    pairs: Sequence[tuple[Path, Path]],
    without: Sequence[Path],
    palette: Palette,
    ignore_label: int,
    ignore_unknown: bool,
    decoding: Decoding,
) -> LabelSet:
    """Return the labels of colour-coded masks: pairs of image and mask.

    Making one raises :class:`UserError` where a colour is not of the palette, unless unknown ones are to be ignored.
    """
    labels = [
        ImageLabel(image, str(mask), partial(_make, mask, palette, ignore_label, ignore_unknown, decoding))
        for image, mask in pairs
    ]
    return LabelSet(list(palette.names), labels, list(without))


def _make(
    path: Path, palette: Palette, ignore_label: int, ignore_unknown: bool, decoding: Decoding, _: tuple[int, int]
) -> tuple[Label, Counter[str]]:
    codes = _codes(path, decoding)
    values = palette.table[codes]
    unknown = values == _NO_CLASS
    count = int(np.count_nonzero(unknown))
    if count and not ignore_unknown:
        raise _unknown_colour(path, codes, unknown, palette, ignore_label)
    values[unknown] = ignore_label
    return values.astype(np.uint8), Counter({"pixel of an unknown colour": count} if count else {})


def _codes(path: Path, decoding: Decoding) -> NDArray[np.int32]:
    """Return each pixel's colour as one number, int32 ``[H, W]``."""
    data = read_bytes(path)
    pixels = decode_mask(data, str(path), decoding)
    if pixels.ndim == 2:  # grey or palette
        pixels = decode_image(data, str(path), decoding._replace(apply_exif=False))
    elif (pixels[..., 3] != 255).any():
        y, x = np.argwhere(pixels[..., 3] != 255)[0]
        raise UserError(f"{path}: pixel {x},{y} is transparent (alpha {pixels[y, x, 3]}); expected opaque colours")
    wide = pixels.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def _unknown_colour(
    path: Path, codes: NDArray[np.int32], unknown: NDArray[np.bool_], palette: Palette, ignore_label: int
) -> UserError:
    """Make the error that names the first pixel ``[H, W]`` of an unknown colour, and the colour nearest to it."""
    y, x = np.argwhere(unknown)[0]
    colour = _rgb(int(codes[y, x]))
    known = list(palette.numbers)
    away = [sum((a - b) ** 2 for a, b in zip(_rgb(code), colour, strict=True)) for code in known]
    nearest = known[int(np.argmin(away))]
    number = palette.numbers[nearest]
    name = palette.names[number] if number < len(palette.names) else "ignored"
    return UserError(
        f"{path}: pixel {x},{y} has colour {_words(colour)}, which is not of the palette; nearest is"
        f" {_words(_rgb(nearest))} ({name}); {int(unknown.sum()):,} such pixels; --unknown=ignore gives them"
        f" {ignore_label}"
    )


def _rgb(code: int) -> Colour:
    return code >> 16, code >> 8 & 255, code & 255


def _words(colour: Colour) -> str:
    return "{} {} {}".format(*colour)
