"""Encoded images of every kind, and the ways in which they are damaged."""

import io
import random
import struct
import zlib

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def picture(height, width, seed=0):
    """Flat patches under a little noise."""
    generator = np.random.default_rng(seed)
    patches = generator.integers(0, 256, (height // 5 + 1, width // 5 + 1, 3))
    flat = np.kron(patches, np.ones((5, 5, 1), int))[:height, :width]
    return (flat + generator.integers(-8, 9, flat.shape)).clip(0, 255).astype(np.uint8)


def encode(array, file_format, mode=None, **options):
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(buffer, file_format, **options)
    return buffer.getvalue()


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def chunks_of(data):
    """(name, body) of a PNG's chunks, as far as they are whole; checksums left aside."""
    found, at = [], 8
    while at + 12 <= len(data):
        length = struct.unpack_from(">I", data, at)[0]
        if at + 12 + length > len(data):
            break
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def png_of(chunks):
    return SIGNATURE + b"".join(chunk(name, body) for name, body in chunks)


def interlaced(colour, depth, size=(19, 23), palette=b""):
    """A PNG in seven passes, of random samples."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    height, width = size
    generator = np.random.default_rng(depth)
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = b""
    for top, left, down, across in passes:
        count, columns = len(range(top, height, down)), len(range(left, width, across))
        for _ in range(count if columns else 0):
            rows += b"\0" + generator.integers(0, 256, (columns * channels * depth + 7) // 8, np.uint8).tobytes()
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 1)
    chunks = [(b"IHDR", header), *([(b"PLTE", palette)] if palette else []), (b"IDAT", zlib.compress(rows))]
    return png_of([*chunks, (b"IEND", b"")])


def jpegs(height, width):
    """By name."""
    kinds = {
        "plain": {},
        "4:4:4": {"subsampling": 0},
        "4:2:2": {"subsampling": 1},
        "4:1:1": {"subsampling": "4:1:1"},
        "restarts": {"restart_marker_blocks": 3},
        "optimised": {"optimize": True},
        "progressive": {"progressive": True},
        "progressive-4:4:4": {"progressive": True, "subsampling": 0},
    }
    for mode in ("RGB", "L", "CMYK"):
        for name, options in kinds.items():
            if mode == "RGB" or ":" not in name:
                yield f"{mode}-{name}", encode(picture(height, width), "JPEG", mode, quality=85, **options)


def pngs(height, width):
    """By name."""
    colours = picture(height, width)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        yield mode, encode(colours, "PNG", mode)
    label = (colours[..., 0] % 5).astype(np.uint8)
    yield "label", encode(label, "PNG")
    yield "label-P", encode(label, "PNG", "P")
    image = Image.fromarray(colours).quantize(16)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", bits=4, transparency=bytes(range(0, 160, 10)))
    yield "P4", buffer.getvalue()
    for colour, depth in ((0, 1), (0, 8), (0, 16), (2, 8), (2, 16), (3, 4), (6, 8)):
        palette = bytes(range(48)) if colour == 3 else b""
        yield f"interlaced-{colour}-{depth}", interlaced(colour, depth, palette=palette)


def damaged(data, generator):
    """The bytes with one thing wrong: cut off, a bit or bytes changed, some taken out or put in."""
    out = bytearray(data)
    place = generator.randrange(len(out))
    kind = generator.randrange(5)
    if kind == 0:
        return bytes(out[:place])
    if kind == 1:
        out[place] ^= 1 << generator.randrange(8)
    elif kind == 2:
        for _ in range(3):
            out[generator.randrange(len(out))] = generator.randrange(256)
    elif kind == 3:
        del out[place : place + generator.randint(1, 12)]
    else:
        out[place:place] = generator.randbytes(generator.randint(1, 12))
    return bytes(out)


def damaged_chunks(data, generator):
    """A PNG with one chunk, or its pixels, changed, and every checksum right."""
    chunks = chunks_of(data)
    one, other = generator.randrange(len(chunks)), generator.randrange(len(chunks))
    kind = generator.randrange(7)
    if kind == 0:
        chunks.insert(other, chunks[one])
    elif kind == 1:
        chunks[one], chunks[other] = chunks[other], chunks[one]
    elif kind == 2:
        del chunks[one]
    elif kind == 3:
        chunks[one] = (chunks[one][0], damaged(chunks[one][1], generator) if chunks[one][1] else b"x")
    else:
        place = next(i for i, (name, _) in enumerate(chunks) if name == b"IDAT")
        pixels = zlib.decompress(b"".join(body for name, body in chunks if name == b"IDAT"))
        if kind == 4:
            pixels += bytes(generator.randint(1, 40))
        elif kind == 5:
            pixels = pixels[: -generator.randint(1, 40)]
        else:
            pixels = damaged(pixels, generator)
        stream = zlib.compress(pixels) + (b"behind" if generator.random() < 0.3 else b"")
        cut = generator.randrange(len(stream))
        chunks = [c for c in chunks if c[0] != b"IDAT"]
        chunks[place:place] = [(b"IDAT", stream[:cut]), (b"IDAT", stream[cut:])]
    return png_of(chunks)


def mutants(files, count, seed=0):
    """``count`` damaged copies of the files (name, data), each with a name that says which it is."""
    files, generator = list(files), random.Random(seed)
    for i in range(count):
        name, data = files[i % len(files)]
        how = damaged_chunks if data[:4] == b"\x89PNG" and generator.random() < 0.6 else damaged
        yield f"{name}, {i}", how(data, generator)
