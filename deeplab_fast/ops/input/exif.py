"""The EXIF orientation of image files: which of eight ways an image is turned before the eye sees it.

Of JPEG and PNG it does what ``csrc/cpu/orientation.cpp`` does. Nothing here raises: where the orientation
cannot be read there is none.
"""

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

PLAIN = 1
_TAG, _SHORT = 0x0112, 3
_EXIF = b"Exif\0\0"
_PNG = b"\x89PNG\r\n\x1a\n"
_WITHOUT_BODY = (0x01, *range(0xD0, 0xD9))  # markers


def exif_orientation(data: bytes) -> int:
    """Return the orientation, 1 to 8: of a JPEG (its first Exif segment), PNG (eXIf chunk), WebP (EXIF chunk) or TIFF.

    1 where it has none.
    """
    if data[:2] == b"\xff\xd8":
        found = next((body[6:] for marker, body in _segments(data) if marker == 0xE1 and body[:6] == _EXIF), b"")
    elif data[:8] == _PNG:
        found = next((body for name, body in _chunks(data) if name == b"eXIf"), b"")
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        found = next((body.removeprefix(_EXIF) for name, body in _riff_chunks(data) if name == b"EXIF"), b"")
    else:
        found = data
    value = _of_tiff(found)
    return value if 1 <= value <= 8 else PLAIN


def is_transposed(orientation: int) -> bool:
    """Tell whether height and width change places."""
    return orientation >= 5


def turned(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn a stored image ``[H, W, ...]`` as its orientation says (EXIF 2.32, section 4.6.4, tag 274); contiguous."""
    if orientation in (3, 4, 6, 7):
        image = image[::-1]
    if orientation in (2, 3, 7, 8):
        image = image[:, ::-1]
    if is_transposed(orientation):
        image = image.swapaxes(0, 1)
    return np.ascontiguousarray(image)


def without_orientation(data: bytes) -> bytes:
    """Return a TIFF file whose orientation is plain, in each entry of its first directory that gives one."""
    order = _byte_order(data)
    plain = bytearray(data)
    for at in _orientations(data):
        struct.pack_into(f"{order}HHIHH", plain, at, _TAG, _SHORT, 1, PLAIN, 0)
    return bytes(plain)


def _byte_order(data: bytes) -> str:
    return ">" if data[:2] == b"MM" else "<"


def _of_tiff(data: bytes) -> int:
    """Return the orientation's value in the first directory of a TIFF header, 1 where there is none."""
    for at in _orientations(data):
        kind, count, value = struct.unpack_from(f"{_byte_order(data)}HIH", data, at + 2)
        return int(value) if (kind, count) == (_SHORT, 1) else PLAIN
    return PLAIN


def _orientations(data: bytes) -> Iterator[int]:
    """Yield where in a TIFF header's first directory the entries of an orientation are."""
    if data[:2] not in (b"II", b"MM") or len(data) < 8:
        return
    order = _byte_order(data)
    magic, directory = struct.unpack_from(f"{order}HI", data, 2)
    if magic != 42 or directory > len(data) - 2:
        return
    (entries,) = struct.unpack_from(f"{order}H", data, directory)
    for at in range(directory + 2, min(directory + 2 + 12 * entries, len(data) - 11), 12):
        if struct.unpack_from(f"{order}H", data, at)[0] == _TAG:
            yield at


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and body of a JPEG's segments before its first scan, up to one that cannot be."""
    at = 2
    while (at := data.find(b"\xff", at)) >= 0:
        while data[at : at + 1] == b"\xff":
            at += 1
        marker = data[at] if at < len(data) else 0xD9
        at += 1
        if marker in (0xD9, 0xDA):
            return
        if marker == 0 or marker in _WITHOUT_BODY:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        if length < 2 or length > len(data) - at:
            return
        yield marker, data[at + 2 : at + length]
        at += length


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and body of a WebP's chunks, up to one that is cut off."""
    at = 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if length > len(data) - at - 8:
            return
        yield data[at : at + 4], data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and body of a PNG's chunks, up to one that is cut off."""
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if length > len(data) - at - 12:
            return
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length
