"""Image and label files to arrays through Pillow, once what Pillow passes over is ruled out."""

import io
from collections.abc import Callable
from hashlib import blake2b
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL.PngImagePlugin import PngImageFile

from deeplab_fast.errors import UserError, pass_on_memory

from .damage import Damage
from .decoding import DEFAULT_DECODING, Decoding
from .exif import exif_orientation, is_transposed, turned
from .jpeg_check import END, Frame, needed_bytes, read_header
from .pillow_formats import (
    IMAGE_FORMATS,
    PillowImage,
    Unfit,
    load_with_pillow,
    open_with_pillow,
    pillow_format,
)
from .png_check import GREY, PALETTE, SIGNATURE, Png, PngHeader, check_pixels, read_png

T = TypeVar("T")

_GREY_STEP = {2: 85, 4: 17}  # Pillow stretches grey of 2 and 4 bits to 0-255; classes must not be
_JPEG_MODES = {1: ("L", "L"), 3: ("RGB", "RGB"), 4: ("CMYK", "CMYK;I")}  # by channels: Pillow's mode and raw mode
_REMEMBERED = 200_000  # files
_sound: dict[bytes, int] = {}  # digest of a sound JPEG: its needed bytes. To check it takes longer than to decode it


def image_size_reference(data: bytes, where: str, decoding: Decoding = DEFAULT_DECODING) -> tuple[int, int]:
    """Specify :func:`~deeplab_fast.ops.image_size`, in Python."""
    header = _header(data, where, decoding)
    if isinstance(header, PngHeader):
        _check_depth(header, where)
    swaps = decoding.apply_exif and is_transposed(exif_orientation(data))
    return (header.width, header.height) if swaps else (header.height, header.width)


def decode_image_reference(data: bytes, where: str, decoding: Decoding = DEFAULT_DECODING) -> NDArray[np.uint8]:
    """Specify :func:`~deeplab_fast.ops.decode_image`, through Pillow: ``[H, W, 3]``."""
    header = _header(data, where, decoding)
    if isinstance(header, PillowImage):
        image = _checked(lambda _: load_with_pillow(header), data, where)
    else:
        image = _jpeg_pixels(data, where, header) if isinstance(header, Frame) else _png_pixels(data, where, header)
    return turned(image, exif_orientation(data)) if decoding.apply_exif else image


def decode_label_reference(data: bytes, where: str, decoding: Decoding = DEFAULT_DECODING) -> NDArray[np.uint8]:
    """Specify :func:`~deeplab_fast.ops.decode_label`, through Pillow: ``[H, W]``."""
    header = _label_header(data, where, decoding)
    if header.colour not in (GREY, PALETTE) or header.depth > 8:
        mode = {GREY: "I;16", 2: "RGB", 4: "LA", 6: "RGBA"}[header.colour]
        advice = "; map its colours to class numbers first" if header.colour in (2, 6) else ""
        raise UserError(
            f"{where}: label has mode {mode}; expected a grey or palette PNG of at most 8 bits whose values are"
            f" the classes{advice}"
        )
    return _stored_values(data, where, header).astype(np.uint8)


def decode_mask(
    data: bytes, where: str, decoding: Decoding = DEFAULT_DECODING
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Decode a PNG that is a label for another program: what it stores, never turned.

    Grey values or palette indexes ``[H, W]``, uint8, or uint16 where they have 16 bits; colours with their alpha
    ``[H, W, 4]`` uint8.

    Raises:
        UserError: a JPEG, unreadable, too large, or colours of 16 bits; names ``where``.
    """
    header = _label_header(data, where, decoding)
    if header.colour in (GREY, PALETTE):
        return _stored_values(data, where, header)
    if header.depth > 8:
        raise UserError(f"{where}: has {header.depth} bits a channel; expected 8")
    return np.array(_png_image(data, where)[0].convert("RGBA"))


def _label_header(data: bytes, where: str, decoding: Decoding) -> PngHeader:
    """Read the header of a label, which only a PNG can be."""
    if _is_jpeg(data):
        raise UserError(f"{where}: label is a JPEG, whose values are not kept exactly; expected PNG")
    _check_bytes(data, where, decoding)
    if data[: len(SIGNATURE)] != SIGNATURE:
        raise UserError(f"{where}: not a readable image ({_unknown(data)}); expected PNG")
    header = _header(data, where, decoding)
    assert isinstance(header, PngHeader)
    return header


def _stored_values(data: bytes, where: str, header: PngHeader) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return the values of a grey PNG or the indexes of a palette PNG, uint8 or, of 16 bits, uint16 ``[H, W]``."""
    values = np.array(_png_image(data, where)[0])
    if header.depth > 8:
        return values.astype(np.uint16)
    stored = values.astype(np.uint8)
    return stored // _GREY_STEP.get(header.depth, 1) if header.colour == GREY else stored


def _is_jpeg(data: bytes) -> bool:
    return data[:2] == b"\xff\xd8"


def _checked(check: Callable[..., T], data: bytes, where: str, *more: object) -> T:
    """Ask a checker; its damage becomes a :class:`UserError`, and so does what Pillow says."""
    try:
        return check(data, *more)
    except Unfit as unfit:
        raise UserError(f"{where}: {unfit}") from None
    except Damage as damage:
        reason = f" at byte {damage.offset} of {len(data)} ({damage.what})"
    except Exception as error:  # Pillow lets several kinds out of broken files
        pass_on_memory(error)
        reason = f" ({' '.join(str(error).split())[:120] or type(error).__name__})"
    raise UserError(f"{where}: cannot be decoded{reason}")


def _check_bytes(data: bytes, where: str, decoding: Decoding) -> None:
    if len(data) > decoding.max_bytes:
        raise UserError(f"{where}: {len(data)} bytes; expected at most {decoding.max_bytes} (--max_pixels raises it)")


def _unknown(data: bytes) -> str:
    return "unknown format" if data else "empty"


def _header(data: bytes, where: str, decoding: Decoding) -> Frame | PngHeader | PillowImage:
    """Read what the header says, within the limits."""
    _check_bytes(data, where, decoding)
    header: Frame | PngHeader | PillowImage
    if _is_jpeg(data):
        header = _checked(read_header, data, where)
    elif data[: len(SIGNATURE)] == SIGNATURE:
        header = _checked(read_png, data, where).header
    elif pillow_format(data):
        header = _checked(open_with_pillow, data, where, decoding.max_pixels)
    else:
        raise UserError(f"{where}: not a readable image ({_unknown(data)}); expected {IMAGE_FORMATS}")
    if header.width * header.height > decoding.max_pixels:
        raise UserError(
            f"{where}: {header.width}x{header.height} pixels; expected at most {decoding.max_pixels} (--max_pixels)"
        )
    return header


# ---------------------------------------------------------------- JPEG


def _jpeg_pixels(data: bytes, where: str, frame: Frame) -> NDArray[np.uint8]:
    digest = blake2b(data, digest_size=16).digest()
    needed = _sound.get(digest) or _checked(needed_bytes, data, where)
    if len(_sound) < _REMEMBERED:
        _sound[digest] = needed
    return _checked(_decode_jpeg, data, where, frame, needed)


def _decode_jpeg(data: bytes, frame: Frame, needed: int) -> NDArray[np.uint8]:
    """Decode by Pillow's decoder alone: its reader of headers has rules of its own."""
    mode, raw_mode = _JPEG_MODES[len(frame.components)]
    size = frame.width, frame.height
    return np.array(PILImage.frombytes(mode, size, data[:needed] + END, "jpeg", raw_mode, "").convert("RGB"))


# ---------------------------------------------------------------- PNG


def _check_depth(header: PngHeader, where: str) -> None:
    if header.colour == GREY and header.depth == 16:
        raise UserError(f"{where}: has more than 8 bits a channel (mode I;16); expected 8")


def _png_image(data: bytes, where: str) -> tuple[PILImage.Image, Png]:
    """Load a sound file's image. Opened here: Pillow's ``open`` has a limit of its own."""
    png = _checked(read_png, data, where)
    _checked(lambda data: check_pixels(png, len(data)), data, where)

    def load(_: bytes) -> PILImage.Image:
        image = PngImageFile(io.BytesIO(png.essential))
        image.load()
        return image

    return _checked(load, data, where), png


def _png_pixels(data: bytes, where: str, header: PngHeader) -> NDArray[np.uint8]:
    _check_depth(header, where)
    image, png = _png_image(data, where)
    if header.colour == PALETTE and int(np.array(image).max()) >= png.palette:
        raise UserError(
            f"{where}: cannot be decoded at byte {len(data)} of {len(data)} (a pixel names no colour of the palette)"
        )
    return np.array(image.convert("RGB"))
