"""A checker that finds what Pillow passes over in a damaged PNG; ``csrc/cpu/png_chunks.cpp`` refuses the same."""

import zlib
from typing import NamedTuple

from .damage import Damage

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, PALETTE = 0, 3
_DEPTHS = {GREY: (1, 2, 4, 8, 16), 2: (8, 16), PALETTE: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_CHANNELS = {GREY: 1, 2: 3, PALETTE: 1, 4: 2, 6: 4}
_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
_MOST = (1 << 31) - 1  # pixels of a side


class PngHeader(NamedTuple):
    """The header chunk (IHDR)."""

    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool


class Png(NamedTuple):
    """A sound file: ``essential`` is a PNG of those chunks alone that its pixels need, ``palette`` counts colours."""

    header: PngHeader
    essential: bytes
    palette: int
    stream: bytes


def read_png(data: bytes) -> Png:
    """Check the structure of a file, every chunk's checksum included; the pixels are left to :func:`check_pixels`.

    Raises:
        Damage: a chunk is cut off, damaged, misplaced, missing, or critical and unknown.
    """
    header: PngHeader | None = None
    kept, palette, at = [SIGNATURE], 0, len(SIGNATURE)
    stream: list[bytes] = []
    data_ended = False
    while True:
        length = int.from_bytes(data[at : at + 4], "big")
        end = at + 12 + length
        if at + 12 > len(data) or end > len(data):
            raise Damage("premature end of the file", len(data))
        name, body = data[at + 4 : at + 8], data[at + 8 : end - 4]
        if not name.isalpha():
            raise Damage(f"invalid chunk type {name!r}", at)
        if zlib.crc32(body, zlib.crc32(name)) != int.from_bytes(data[end - 4 : end], "big"):
            raise Damage(f"wrong checksum of chunk {name.decode()}", at)
        if header is None or name == b"IHDR":
            header = _header(name, body, at, header is None)
            kept.append(data[at:end])
        elif name == b"PLTE":
            if header.colour == PALETTE:
                palette = _palette(body, at, header.depth, is_first=not (palette or stream))
                kept.append(data[at:end])
        elif name == b"IDAT":
            if data_ended:
                raise Damage("image data in two places", at)
            stream.append(body)
            kept.append(data[at:end])
        elif name == b"IEND":
            kept.append(data[at:end])
            break
        elif name[:1].isupper():
            raise Damage(f"unknown critical chunk {name.decode()}", at)
        data_ended = bool(stream) and name != b"IDAT"
        at = end
    if not stream:
        raise Damage("no image data", at)
    if header.colour == PALETTE and not palette:
        raise Damage("no palette", len(data))
    return Png(header, b"".join(kept), palette, b"".join(stream))


def _header(name: bytes, body: bytes, at: int, is_first: bool) -> PngHeader:
    if name != b"IHDR":
        raise Damage("no header", at)
    if not is_first or len(body) != 13:
        raise Damage("invalid header", at)
    width, height = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
    depth, colour, compression, filters, interlace = body[8:]
    if not (0 < width <= _MOST and 0 < height <= _MOST):
        raise Damage("the image has no pixels, or too many", at)
    if depth not in _DEPTHS.get(colour, ()) or compression or filters or interlace > 1:
        raise Damage("invalid header", at)
    return PngHeader(width, height, depth, colour, interlace == 1)


def _palette(body: bytes, at: int, depth: int, is_first: bool) -> int:
    """Return how many colours the pixels may name."""
    if not is_first:
        raise Damage("misplaced palette", at)
    if not body or len(body) % 3 or len(body) > 768:
        raise Damage("invalid palette", at)
    return min(len(body) // 3, 1 << depth)


def check_pixels(png: Png, size: int) -> None:
    """Check the compressed pixels: as many bytes as the header says, and their checksum.

    Bytes behind the compressed stream are not read.

    Raises:
        Damage: too few, too many, or damaged; ``size`` is the file's.
    """
    expected = _inflated_bytes(png.header)
    inflater = zlib.decompressobj()
    try:
        found = len(inflater.decompress(png.stream, expected + 1))
    except zlib.error:
        raise Damage("corrupt image data", size) from None
    if found > expected:
        raise Damage("too much image data", size)
    if found < expected or not inflater.eof:
        raise Damage("not enough image data", size)


def _inflated_bytes(header: PngHeader) -> int:
    """Count the bytes of rows, each after its filter byte; of all passes where they are interlaced."""
    bits = header.depth * _CHANNELS[header.colour]
    passes = _PASSES if header.interlaced else ((0, 0, 1, 1),)
    total = 0
    for top, left, down, across in passes:
        rows, columns = -(-(header.height - top) // down), -(-(header.width - left) // across)
        if rows > 0 and columns > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total
