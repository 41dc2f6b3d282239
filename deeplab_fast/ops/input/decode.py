"""Image and label files to arrays, with limits: natively, or through Pillow where the extension cannot.

What is damaged is refused, and both ways refuse the same: a file cut off anywhere; a JPEG whose scans break off, hold
bits that are no code, or whose restart markers are out of order; a JPEG that lacks a channel, the last bits of a
coefficient or its end marker; a PNG with a wrong checksum, whichever chunk's, with a chunk misplaced or both critical
and unknown, or with more or fewer pixels than its header says; a pixel that names no colour of its palette. JPEG must
be baseline or progressive, Huffman-coded, of 8 bits. What no pixel rests on is passed over: bytes behind the end, or
between a JPEG's segments. What is accepted has the same pixels both ways. BMP, TIFF and WebP are Pillow's both ways.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplab_fast.errors import UserError

from .. import extension
from .decode_reference import decode_image_reference, decode_label_reference, image_size_reference
from .decoding import DEFAULT_DECODING, Decoding
from .pillow_formats import pillow_format


def image_size(data: bytes, where: str, decoding: Decoding = DEFAULT_DECODING) -> tuple[int, int]:
    """Read height and width, those of the turned image where it is turned, without decoding it.

    Raises:
        UserError: not a readable image; names ``where``.
    """
    native = extension.decoder()[0]
    if native is None or pillow_format(data):
        return image_size_reference(data, where, decoding)
    try:
        return native.image_size(data, *decoding)
    except native.DecodeError as error:
        raise UserError(f"{where}: {error}") from None


def decode_image(data: bytes, where: str, decoding: Decoding = DEFAULT_DECODING) -> NDArray[np.uint8]:
    """Decode a file's bytes to RGB uint8 ``[H, W, 3]``, turned by EXIF orientation unless told otherwise.

    JPEG and PNG are decoded natively where that can be; BMP, TIFF and WebP by Pillow.

    Raises:
        UserError: truncated, corrupt, too large, of more than 8 bits or not an image; names ``where``.
    """
    native = extension.decoder()[0]
    if native is None or pillow_format(data):
        return decode_image_reference(data, where, decoding)
    return _decoded(native, lambda data: native.decode_image(data, None, *decoding), data, where)


def decode_label(data: bytes, where: str, decoding: Decoding = DEFAULT_DECODING) -> NDArray[np.uint8]:
    """Decode label PNG bytes (8-bit grey, palette, or fewer bits) to class indexes, uint8 ``[H, W]``.

    A palette file gives its indexes, not its colours. A label is never turned: tools write it as they show it.

    Raises:
        UserError: unreadable, or its pixels are colours rather than classes; names ``where``.
    """
    native = extension.decoder()[0]
    if native is None:
        return decode_label_reference(data, where, decoding)
    return _decoded(native, lambda data: native.decode_label(data, None, decoding.max_pixels), data, where)


def _decoded(native: ModuleType, decode: Callable[[bytes], Any], data: bytes, where: str) -> NDArray[np.uint8]:
    try:
        return decode(data)
    except native.DecodeError as error:
        raise UserError(f"{where}: {error}") from None
