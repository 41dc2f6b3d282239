"""Tiny images of every kind that the native decoders know.

As seeds they end in eight bytes that choose the targets' window; a decoder does not look behind the end of the file's
own data.
"""

import io
import itertools
import struct
import zlib

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a PNG's colour types
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def noise(height, width, seed):
    """Smooth colours with a little noise, uint8 ``[height, width, 3]``."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([8 * x, 8 * y, 4 * (x + y)], axis=2)
    return (smooth + generator.integers(0, 32, smooth.shape)).astype(np.uint8)


def window(seed):
    return np.random.default_rng(seed).integers(0, 256, 8, np.uint8).tobytes()


# ---------------------------------------------------------------- JPEG


def jpeg(mode, seed, size=(19, 21), **options):
    buffer = io.BytesIO()
    image = Image.fromarray(noise(*size, seed)).convert(mode)
    image.save(buffer, "JPEG", quality=40, **options)
    return buffer.getvalue()


def resampled(data, factors):
    """A file with other sampling factors of its first channel: a mixed-up image, but a whole file."""
    at = next(i for i in range(len(data)) if data[i : i + 2] in (b"\xff\xc0", b"\xff\xc2")) + 11
    return data[:at] + bytes([factors]) + data[at + 1 :]


def cut_scans(data, scans):
    """A progressive file after its first scans, with an end marker: what is left is a blurred image."""
    starts = [i for i in range(len(data) - 1) if data[i : i + 2] == b"\xff\xda"]
    return data[: starts[scans]] + b"\xff\xd9"


def jpegs():
    kinds = {"baseline": {}, "progressive": {"progressive": True}, "restart": {"restart_marker_blocks": 2}}
    for (name, options), sampling in itertools.product(kinds.items(), ("4:4:4", "4:2:2", "4:2:0")):
        yield f"rgb-{name}-{sampling.replace(':', '')}", jpeg("RGB", 1, subsampling=sampling, **options)
    # Of 32 by 32 pixels these have as many blocks in a unit, and units, as what they are made from.
    for (name, options), (sampling, factors) in itertools.product(
        kinds.items(), (("4:2:2", 0x12), ("4:2:0", 0x41), ("4:2:0", 0x14))
    ):
        data = jpeg("RGB", 1, (32, 32), subsampling=sampling, **options)
        yield f"rgb-{name}-{factors:x}", resampled(data, factors)
    for mode in ("L", "CMYK"):
        for name, options in kinds.items():
            yield f"{mode.lower()}-{name}", jpeg(mode, 2, **options)
    yield "one-pixel", jpeg("RGB", 3, (1, 1))
    yield "optimised", jpeg("RGB", 4, (9, 40), optimize=True)
    yield "comment", jpeg("L", 5, comment=b"a comment")
    blurred = jpeg("RGB", 6, (40, 40), progressive=True, subsampling="4:2:0")
    for scans in (1, 3):
        yield f"scans-{scans}", cut_scans(blurred, scans)
    yield "cut-off", jpeg("RGB", 7)[:-30]


# ---------------------------------------------------------------- PNG


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def packed_rows(samples, depth):
    """Rows of samples ``[height, width * channels]`` to bytes."""
    if depth == 16:
        return [row.astype(">u2").tobytes() for row in samples]
    if depth == 8:
        return [row.astype(np.uint8).tobytes() for row in samples]
    bits = np.unpackbits(samples.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :]
    return [np.packbits(row).tobytes() for row in bits]


def png(colour, depth, *, interlaced=False, filters=(0,), extra=(), parts=1, size=(9, 11), tail=()):
    """Written by hand. The rows' filter bytes go round ``filters``; the bytes behind them are not filtered ones."""
    height, width = size
    channels = CHANNELS[colour]
    samples = np.random.default_rng(depth).integers(0, 1 << min(depth, 8), (height, width, channels))
    passes = [samples[top::dy, left::dx] for top, left, dy, dx in ADAM7] if interlaced else [samples]
    rows = [row for part in passes if part.size for row in packed_rows(part.reshape(len(part), -1), depth)]
    stream = zlib.compress(b"".join(bytes([filters[i % len(filters)]]) + row for i, row in enumerate(rows)), 9)
    step = -(-len(stream) // parts)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    palette = [chunk(b"PLTE", bytes(range(3 * (1 << min(depth, 8)))[:768]))] if colour == 3 and depth < 8 else []
    if colour == 3 and depth == 8:
        palette = [chunk(b"PLTE", bytes(i % 256 for i in range(768)))]
    data = [chunk(b"IDAT", stream[i : i + step]) for i in range(0, len(stream), step)]
    chunks = [chunk(b"IHDR", header), *palette, *extra, *data, *tail, chunk(b"IEND", b"")]
    return SIGNATURE + b"".join(chunks)


def pngs():
    for colour, depths in DEPTHS.items():
        for depth, interlaced in itertools.product(depths, (False, True)):
            name = f"colour{colour}-{depth}{'-interlaced' if interlaced else ''}"
            yield name, png(colour, depth, interlaced=interlaced)
    for row_filter in range(1, 6):  # 5 is none
        yield f"filter{row_filter}", png(0, 8, filters=(row_filter,))
    yield "filters", png(2, 8, filters=(4, 3, 2, 1, 0))
    yield "parts", png(3, 4, parts=4)
    yield "transparent", png(3, 8, extra=[chunk(b"tRNS", bytes(range(64)))])
    yield "transparent-grey", png(0, 8, extra=[chunk(b"tRNS", b"\0\x07")])
    text = [chunk(b"tEXt", b"Title\0words"), chunk(b"zTXt", b"Title\0\0" + zlib.compress(b"words" * 99))]
    yield "text", png(0, 8, extra=[*text, chunk(b"gAMA", struct.pack(">I", 45455))], tail=text)
    yield "profile", png(2, 8, extra=[chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(132)))])
    yield "animated", png(0, 8, extra=[chunk(b"acTL", struct.pack(">II", 1, 0))])
    yield "one-pixel", png(0, 1, size=(1, 1))
    yield "wide", png(3, 1, size=(1, 200))
