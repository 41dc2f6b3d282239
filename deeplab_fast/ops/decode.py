"""Image and label files to arrays, with limits: natively, or through Pillow where the extension cannot."""

import io
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import UnidentifiedImageError

from deeplab_fast.errors import UserError

from . import _native

MAX_PIXELS = 1 << 26  # 64 Mpixel: an image beyond this is a mistake or an attack
_FORMATS = ("JPEG", "PNG")
_GREY_MODES = ("1", "L", "P")
_LABEL_ADVICE = dict.fromkeys(("RGB", "RGBA"), "; map its colours to class numbers first")
_GREY_STEP = {2: 85, 4: 17}  # Pillow stretches grey of 2 and 4 bits to 0-255; classes must not be


def image_size(data: bytes, where: str) -> tuple[int, int]:
    """Height and width from the header alone.

    Raises:
        UserError: not a readable image; names ``where``.
    """
    native = _native.decoder()[0]
    if native is None:
        return image_size_reference(data, where)
    try:
        return native.image_size(data)
    except native.DecodeError as error:
        raise UserError(f"{where}: {error}") from None


def decode_image(data: bytes, where: str) -> NDArray[np.uint8]:
    """JPEG or PNG bytes to RGB uint8 ``[H, W, 3]``. EXIF orientation is ignored, as its labels do.

    Raises:
        UserError: truncated, corrupt, too large, of more than 8 bits or not an image; names ``where``.
    """
    native = _native.decoder()[0]
    if native is None:
        return decode_image_reference(data, where)
    return _decoded(native, native.decode_image, data, where)


def decode_label(data: bytes, where: str) -> NDArray[np.uint8]:
    """Label PNG bytes (8-bit grey, palette, or fewer bits) to class indexes, uint8 ``[H, W]``.

    A palette file gives its indexes, not its colours.

    Raises:
        UserError: unreadable, or its pixels are colours rather than classes; names ``where``.
    """
    native = _native.decoder()[0]
    if native is None:
        return decode_label_reference(data, where)
    return _decoded(native, native.decode_label, data, where)


def _decoded(native: ModuleType, decode: Callable[[bytes], Any], data: bytes, where: str) -> NDArray[np.uint8]:
    try:
        return decode(data)
    except native.DecodeError as error:
        raise UserError(f"{where}: {error}") from None


# ---------------------------------------------------------------- the reference: Pillow


def _open(data: bytes, where: str) -> PILImage.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PILImage.DecompressionBombWarning)
            image = PILImage.open(io.BytesIO(data), formats=_FORMATS)
    except Exception as error:
        raise UserError(f"{where}: not a readable image ({_reason(error)}); expected JPEG or PNG") from None
    if image.width * image.height > MAX_PIXELS:
        raise UserError(f"{where}: {image.width}x{image.height} pixels; expected at most {MAX_PIXELS}")
    return image


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "unknown format"
    return " ".join(str(error).split())[:120] or type(error).__name__


def image_size_reference(data: bytes, where: str) -> tuple[int, int]:
    """:func:`image_size` through Pillow."""
    image = _open(data, where)
    return image.height, image.width


def decode_image_reference(data: bytes, where: str) -> NDArray[np.uint8]:
    """:func:`decode_image` through Pillow."""
    image = _open(data, where)
    if image.mode[0] in "IF":
        raise UserError(f"{where}: has more than 8 bits a channel (mode {image.mode}); expected 8")
    try:
        return np.array(image.convert("RGB"))
    except Exception as error:
        raise UserError(f"{where}: cannot be decoded ({_reason(error)})") from None


def _png_depth(data: bytes) -> int:
    """Bits of a grey PNG's samples, from its header; 8 for anything else."""
    is_grey_png = data[:8] == b"\x89PNG\r\n\x1a\n" and data[25:26] == b"\0"
    return data[24] if is_grey_png else 8


def decode_label_reference(data: bytes, where: str) -> NDArray[np.uint8]:
    """:func:`decode_label` through Pillow."""
    image = _open(data, where)
    if image.mode not in _GREY_MODES:
        raise UserError(
            f"{where}: label has mode {image.mode}; expected a grey or palette PNG of at most 8 bits whose values are"
            f" the classes{_LABEL_ADVICE.get(image.mode, '')}"
        )
    if image.format == "JPEG":
        raise UserError(f"{where}: label is a JPEG, whose values are not kept exactly; expected PNG")
    try:
        label = np.array(image).astype(np.uint8)
        return label // _GREY_STEP.get(_png_depth(data), 1) if image.mode == "L" else label
    except Exception as error:
        raise UserError(f"{where}: cannot be decoded ({_reason(error)})") from None
