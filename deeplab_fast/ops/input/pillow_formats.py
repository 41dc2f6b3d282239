"""Images that the native decoders do not know: BMP, TIFF and WebP, through Pillow, both with and without the extension.

What Pillow would make other pixels of than are there is refused: more than 8 bits a channel, floating point, colours
other than RGB, all pages but the first, all but the first picture of an animation.
"""

import io
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from .exif import without_orientation

PILLOW_SUFFIXES = (".bmp", ".tif", ".tiff", ".webp")
IMAGE_FORMATS = "JPEG, PNG, BMP, TIFF or WebP"

_FORMATS = {b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "BigTIFF", b"MM\0+": "BigTIFF"}
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX")
_BITS, _CHANNELS, _SAMPLE_FORMAT, _TILE_WIDTH, _TILE_LENGTH = 258, 277, 339, 322, 323  # TIFF 6.0's tags
_UNSIGNED, _FLOAT = 1, 3  # formats of samples
_CONVERTED_AT_ONCE = 1 << 20  # pixels
_lifting = threading.Lock()
_ADVICE = "expected 8-bit grey, palette or RGB; save it as such, or as PNG"


class Unfit(Exception):
    """A sound file whose picture is of a kind that is not taken; says which, and what to do."""


class PillowImage(NamedTuple):
    """An image whose header was read: ``height`` and ``width`` as it is stored; no ``file`` where it is too large."""

    file: ImageFile | None
    height: int
    width: int


def pillow_format(data: bytes) -> str:
    """Return BMP, TIFF, BigTIFF or WebP, as the first bytes say; empty for every other file."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    return _FORMATS.get(data[:4]) or _FORMATS.get(data[:2], "")


def open_with_pillow(data: bytes, max_pixels: int) -> PillowImage:
    """Read the header of a BMP, TIFF or WebP, without decoding a pixel of it.

    Raises:
        Unfit: it is of a kind that is not taken.
        Exception: it is damaged; Pillow has several kinds of errors.
    """
    kind = pillow_format(data)
    if kind == "BigTIFF":
        raise Unfit("BigTIFF; expected plain TIFF or PNG")
    if kind == "WebP":
        size = _webp_size(data)
        if size[0] * size[1] > max_pixels:  # the caller says so; Pillow would make room for all of them here
            return PillowImage(None, *size)
        with _any_size(*size):
            file: ImageFile = WebPImageFile(io.BytesIO(data))
    elif kind == "TIFF":
        _check_tiff(data, max_pixels)
        file = TiffImageFile(io.BytesIO(without_orientation(data)))  # else Pillow turns it, or not, by its version
    else:
        file = BmpImageFile(io.BytesIO(data))
    if file.mode not in _MODES:
        raise Unfit(f"{kind} of mode {file.mode}; {_ADVICE}")
    return PillowImage(file, file.height, file.width)


def load_with_pillow(image: PillowImage) -> NDArray[np.uint8]:
    """Decode to RGB uint8 ``[H, W, 3]``, as it is stored; what is transparent keeps its colour.

    Raises:
        Exception: it is damaged; Pillow has several kinds of errors.
    """
    file = image.file
    assert file is not None
    with _any_size(image.height, image.width):
        file.load()
    if file.size != (image.width, image.height):
        raise ValueError(f"{file.width}x{file.height} pixels; its header says {image.width}x{image.height}")
    if file.mode == "P" and int(np.array(file).max()) >= _colours(file):
        raise ValueError("a pixel names no colour of the palette")
    return _pixels(file)


def _pixels(image: PILImage.Image) -> NDArray[np.uint8]:
    """Return RGB uint8 ``[H, W, 3]``, converted some rows at a time: a large image is not held twice on the way."""
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, _CONVERTED_AT_ONCE // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, width, bottom)).convert("RGB"))
    return pixels


@contextmanager
def _any_size(height: int, width: int) -> Iterator[None]:
    """Lift Pillow's own limit, which is the process's, where an image within ours is beyond it; one at a time."""
    limit = PILImage.MAX_IMAGE_PIXELS
    if limit is None or height * width <= limit:
        yield
        return
    with _lifting:
        limit = PILImage.MAX_IMAGE_PIXELS
        PILImage.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            PILImage.MAX_IMAGE_PIXELS = limit


def _colours(file: ImageFile) -> int:
    assert file.palette is not None
    return len(file.palette.palette) // len(file.palette.mode)


def _check_tiff(data: bytes, max_pixels: int) -> None:
    tags = ImageFileDirectory_v2(data[:8])
    first, stream = tags.next, io.BytesIO(data)
    stream.seek(first)
    tags.load(stream)
    bits = max(_numbers(tags.get(_BITS, 1)))
    formats = set(_numbers(tags.get(_SAMPLE_FORMAT, _UNSIGNED)))
    if formats != {_UNSIGNED}:
        numbers = "floating-point" if _FLOAT in formats else "signed or complex"
        raise Unfit(f"TIFF of {bits}-bit {numbers} numbers; {_ADVICE}")
    if bits > 8:
        raise Unfit(f"TIFF of {bits} bits a channel; {_ADVICE}")
    if (channels := max(_numbers(tags.get(_CHANNELS, 1)))) > 4:
        raise Unfit(f"TIFF of {channels} channels; {_ADVICE}")
    if tags.next not in (0, first):
        raise Unfit("TIFF of several pages; expected one: save each page as a file")
    sides = [max(_numbers(tags.get(tag, 0))) for tag in (_TILE_WIDTH, _TILE_LENGTH)]
    if sides[0] * sides[1] > max_pixels:
        raise ValueError(f"tiles of {sides[0]}x{sides[1]} pixels")


def _numbers(value: object) -> tuple[int, ...]:
    numbers = value if isinstance(value, tuple) else (value,)
    if not numbers or not all(isinstance(number, int) for number in numbers):
        raise ValueError("a tag that must hold whole numbers does not")
    return numbers


def _webp_size(data: bytes) -> tuple[int, int]:
    """Return height and width as the first chunk says (RFC 9649, sections 2.5 to 2.7)."""
    if int.from_bytes(data[4:8], "little") > len(data) - 8:
        raise ValueError("the file is cut off")
    chunk, body = data[12:16], data[20:30]
    if chunk == b"VP8X" and len(body) == 10:
        if body[0] & 2:
            raise Unfit("WebP with an animation; expected one picture: save each as a file")
        return int.from_bytes(body[7:10], "little") + 1, int.from_bytes(body[4:7], "little") + 1
    if chunk == b"VP8L" and body[:1] == b"\x2f":
        (packed,) = struct.unpack_from("<I", body, 1)
        return (packed >> 14 & 0x3FFF) + 1, (packed & 0x3FFF) + 1
    if chunk == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", body, 6)
        return height & 0x3FFF, width & 0x3FFF
    raise ValueError("no picture where the first chunk is expected")


def encode_png(pixels: NDArray[np.uint8], orientation: int) -> bytes:
    """Encode RGB uint8 ``[H, W, 3]`` as a PNG with this EXIF orientation; the same bytes each time."""
    exif = PILImage.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    PILImage.fromarray(pixels).save(buffer, "PNG", **({"exif": exif} if orientation != 1 else {}))
    return buffer.getvalue()
