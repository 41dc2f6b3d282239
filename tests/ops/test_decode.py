"""Decoding: native against Pillow, windows against the whole, and what must be refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from deeplab_fast.errors import UserError
from deeplab_fast.ops import extension
from deeplab_fast.ops.input import decode
from deeplab_fast.ops.input.decode import decode_image, decode_label, image_size

pytestmark = pytest.mark.gpu

NATIVE = extension.decoder()[0]
needs_native = pytest.mark.skipif(NATIVE is None, reason=f"no native decoder: {extension.decoder()[1]}")


def encode(array, file_format, mode=None, **options):
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(buffer, file_format, **options)
    return buffer.getvalue()


def picture(height, width, seed=0):
    """Flat patches and noise: smooth areas and edges for the chroma filters."""
    generator = np.random.default_rng(seed)
    patches = generator.integers(0, 256, (height // 5 + 1, width // 5 + 1, 3), np.uint8)
    return np.kron(patches, np.ones((5, 5, 1), np.uint8))[:height, :width]


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def grey_png(rows, width, depth, *, extra=b"", split=1):
    """A PNG written by hand: ``rows`` are packed samples, each after its filter byte."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), depth, 0, 0, 0, 0))
    stream = zlib.compress(b"".join(rows))
    size = -(-len(stream) // split)
    data = b"".join(chunk(b"IDAT", stream[i : i + size]) for i in range(0, len(stream), size))
    return b"\x89PNG\r\n\x1a\n" + header + extra + data + chunk(b"IEND", b"")


# ---------------------------------------------------------------- both decoders


@pytest.fixture(params=["dispatched", "reference"])
def functions(request):
    """(decode_image, decode_label, image_size) of the dispatched functions, and of the reference."""
    suffix = "" if request.param == "dispatched" else "_reference"
    return tuple(getattr(decode, name + suffix) for name in ("decode_image", "decode_label", "image_size"))


def test_image_modes(functions):
    image, _, size = functions
    rgb = picture(9, 7)
    assert np.array_equal(image(encode(rgb, "PNG"), "x"), rgb)
    for mode in ("L", "CMYK"):
        assert image(encode(rgb, "JPEG", mode), "x").shape == (9, 7, 3)
    assert size(encode(rgb, "PNG"), "x") == (9, 7)


def test_exif_orientation_is_applied(functions):
    image, _, size = functions
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(np.zeros((10, 20, 3), np.uint8), "JPEG", exif=exif)
    assert image(data, "x").shape == (20, 10, 3)
    assert size(data, "x") == (20, 10)


def test_palette_label_gives_indexes(functions):
    label = np.array([[0, 1], [20, 255]], np.uint8)
    image = Image.fromarray(label).convert("P")
    image.putpalette([7] * 768)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    assert functions[1](buffer.getvalue(), "x").tolist() == [[0, 1], [20, 255]]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_labels_of_fewer_bits_give_classes(functions, bits):
    label = (np.arange(33).reshape(3, 11) % (1 << bits)).astype(np.uint8)
    packed = [bytes([0]) + np.packbits(np.unpackbits(row[:, None], axis=1)[:, 8 - bits :]).tobytes() for row in label]
    assert np.array_equal(functions[1](grey_png(packed, 11, bits), "x"), label)


@pytest.mark.parametrize("row_filter", range(5))
@pytest.mark.parametrize("split", [1, 3])
def test_every_row_filter(functions, row_filter, split):
    """Filtered by the definitions in the PNG specification, section 9; image data in one chunk and in three."""
    label = np.random.default_rng(row_filter).integers(0, 256, (6, 40)).astype(int)
    left = np.pad(label, ((0, 0), (1, 0)))[:, :-1]
    up = np.pad(label, ((1, 0), (0, 0)))[:-1]
    corner = np.pad(label, ((1, 0), (1, 0)))[:-1, :-1]
    p = left + up - corner
    distance = np.abs(p - np.stack([left, up, corner]))
    nearest = np.choose(distance.argmin(0), [left, up, corner])
    predicted = [np.zeros_like(label), left, up, (left + up) // 2, nearest][row_filter]
    rows = [bytes([row_filter]) + row.tobytes() for row in ((label - predicted) % 256).astype(np.uint8)]
    assert np.array_equal(functions[1](grey_png(rows, 40, 8, split=split), "x"), label)


@pytest.mark.parametrize(("mode", "words"), [
    ("RGB", "label has mode RGB; expected a grey or palette PNG .*; map its colours"),
    ("RGBA", "label has mode RGBA; expected a grey or palette PNG .*; map its colours"),
    ("LA", "label has mode LA; expected a grey or palette PNG"),
    ("I;16", "label has mode I;16; expected a grey or palette PNG"),
])  # fmt: skip
def test_labels_that_are_no_classes_are_refused(functions, mode, words):
    array = np.zeros((4, 4), np.uint16) if mode == "I;16" else np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(UserError, match=rf"a\.png: {words}"):
        functions[1](encode(array, "PNG", None if mode == "I;16" else mode), "a.png")


def test_a_jpeg_label_is_refused(functions):
    with pytest.raises(UserError, match=r"a\.jpg: label is a JPEG"):
        functions[1](encode(np.zeros((4, 4), np.uint8), "JPEG"), "a.jpg")


def test_deep_grey_images_are_refused(functions):
    with pytest.raises(UserError, match=r"more than 8 bits a channel \(mode I;16\)"):
        functions[0](encode(np.zeros((4, 4), np.uint16), "PNG"), "x")


@pytest.mark.parametrize("data", [b"", b"x", b"GIF89a", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"\0" * 1000])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_what_is_no_image_is_refused(functions, which, data):
    with pytest.raises(UserError, match=r"^b\.jpg: "):
        functions[which](data, "b.jpg")


@pytest.mark.parametrize("cut", [1, 20, 300])
def test_a_truncated_jpeg_is_refused(functions, cut):
    data = encode(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), "JPEG")
    with pytest.raises(UserError, match=r"b\.jpg: "):
        functions[0](data[:cut], "b.jpg")


@pytest.mark.parametrize("which", [0, 1])
def test_a_truncated_png_is_refused(functions, which):
    data = encode(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8), "PNG")
    for cut in (10, 40, len(data) // 2):
        with pytest.raises(UserError, match=r"b\.png: "):
            functions[which](data[:cut], "b.png")


def test_too_many_pixels_are_refused_before_they_are_decoded(functions):
    data = grey_png([b"\0"], 10000, 8)
    data = data.replace(struct.pack(">II", 10000, 1), struct.pack(">II", 10000, 10000))
    start = 8 + 8 + 13
    data = data[:start] + struct.pack(">I", zlib.crc32(data[12:start])) + data[start + 4 :]
    for function in functions:
        with pytest.raises(UserError, match=r"pixels; expected at most 67108864"):
            function(data, "x")


@pytest.mark.parametrize("which", [0, 1])
def test_the_malformed_corpus_is_decoded_or_refused(functions, which, shared_data):
    """Nothing but :class:`UserError` comes out, and it names the file."""
    refusals, files = {}, [p for p in sorted((shared_data / "malformed").rglob("*")) if p.is_file()]
    assert len(files) == 502
    for path in files:
        try:
            functions[which](path.read_bytes(), str(path))
        except UserError as error:
            refusals[path] = str(error)
    assert all(message.startswith(f"{path}: ") for path, message in refusals.items())
    assert 0 < len(refusals) < len(files)


# ---------------------------------------------------------------- native against Pillow

SUBSAMPLINGS = ["4:4:4", "4:2:2", "4:2:0", "4:1:1"]


@needs_native
@pytest.mark.parametrize("size", [(97, 133), (64, 64), (17, 31), (1, 1), (8, 200), (301, 5)])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_equals_pillow_and_windows_equal_the_whole(size, mode):
    generator = np.random.default_rng(size[0])
    for subsampling in SUBSAMPLINGS:
        for options in ({}, {"progressive": True}, {"restart_marker_blocks": 3}, {"optimize": True}):
            data = encode(picture(*size), "JPEG", mode, quality=85, subsampling=subsampling, **options)
            whole = decode_image(data, "x")
            assert np.array_equal(whole, decode.decode_image_reference(data, "x"))
            for _ in range(8):
                top, left = generator.integers(0, size[0]), generator.integers(0, size[1])
                bottom, right = generator.integers(top + 1, size[0] + 1), generator.integers(left + 1, size[1] + 1)
                part = NATIVE.decode_image(data, (top, bottom, left, right))
                assert np.array_equal(part, whole[top:bottom, left:right]), (subsampling, options)


@needs_native
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_png_equals_pillow_and_windows_equal_the_whole(mode):
    data = encode(picture(23, 37), "PNG", mode)
    whole = decode_image(data, "x")
    assert np.array_equal(whole, decode.decode_image_reference(data, "x"))
    assert np.array_equal(NATIVE.decode_image(data, (3, 20, 5, 31)), whole[3:20, 5:31])


@needs_native
def test_transparent_palettes_and_deep_colours_equal_pillow():
    image = Image.fromarray(picture(9, 9)).quantize(16)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=bytes(range(0, 160, 10)))
    assert np.array_equal(decode_image(buffer.getvalue(), "x"), decode.decode_image_reference(buffer.getvalue(), "x"))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    row = bytes([0]) + struct.pack(">6H", 0x1234, 0xFFFF, 0x80FF, 0, 0x00FF, 0xFF00)
    deep = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    assert decode_image(deep, "x").tolist() == decode.decode_image_reference(deep, "x").tolist()


@needs_native
def test_labels_equal_pillow_and_windows_equal_the_whole(builtin):
    data = (builtin / "labels" / "00003.png").read_bytes()
    whole = decode_label(data, "x")
    assert np.array_equal(whole, decode.decode_label_reference(data, "x"))
    assert np.array_equal(NATIVE.decode_label(data, (10, 40, 5, 60)), whole[10:40, 5:60])


@needs_native
@pytest.mark.parametrize("window", [(0, 0, 0, 5), (-1, 3, 0, 5), (0, 10, 0, 5), (0, 3, 4, 4), (0, 3, 0, 6)])
def test_windows_beyond_the_image_are_refused(window):
    with pytest.raises(ValueError, match="window"):
        NATIVE.decode_image(encode(picture(9, 5), "PNG"), window)


@needs_native
def test_a_jpeg_cut_off_below_the_window_is_refused_too():
    """Else a broken file would be found in some epochs only."""
    data = encode(picture(200, 200), "JPEG")
    NATIVE.decode_image(data, (0, 8, 0, 200))
    with pytest.raises(NATIVE.DecodeError, match="Premature end"):
        NATIVE.decode_image(data[:-40], (0, 8, 0, 200))


@needs_native
def test_errors_say_where_in_the_file():
    data = bytearray(encode(picture(64, 64), "JPEG"))
    data[len(data) // 2 :] = b"\xff\xd9"
    with pytest.raises(
        UserError, match=rf"x: cannot be decoded at byte \d+ of {len(data)} \(Corrupt JPEG data: premature"
    ):
        decode_image(bytes(data), "x")


@needs_native
def test_a_wrong_checksum_is_found():
    data = bytearray(encode(np.zeros((9, 9), np.uint8), "PNG"))
    at = data.index(b"IDAT") + 6
    data[at] ^= 1
    with pytest.raises(UserError, match="x: cannot be decoded at byte"):
        decode_label(bytes(data), "x")


def test_the_size_is_read_from_the_header_alone():
    data = encode(picture(64, 48), "JPEG")
    assert image_size(data[:700], "x") == (64, 48)
