"""EXIF orientation: OpenCV as the independent oracle, native and reference alike, windows, and hostile headers."""

import io
import random
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from deeplab_fast.ops import Decoding, exif_orientation, extension
from deeplab_fast.ops.input import decode
from tests.native.mutations import chunk, chunks_of, damaged, encode, picture, png_of

NATIVE = extension.decoder()[0]
needs_native = pytest.mark.skipif(NATIVE is None, reason=f"no native decoder: {extension.decoder()[1]}")


def tiff(orientation, order="<", kind=3, count=1, directory=8, before=1):
    """A TIFF header and a directory of ``before`` other entries and the orientation."""
    entry = struct.pack(f"{order}HHIHH", 0x0112, kind, count, orientation, 0)
    other = struct.pack(f"{order}HHII", 0x0100, 4, 1, 7) * before
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, directory)
    return head + bytes(max(0, directory - 8)) + struct.pack(f"{order}H", before + 1) + other + entry + bytes(4)


def segment(marker, body):
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def oriented_jpeg(data, exif, *before):
    """With an Exif segment, after other segments."""
    return data[:2] + b"".join(before) + segment(0xE1, b"Exif\0\0" + exif) + data[2:]


def oriented_png(data, exif):
    header, *others = chunks_of(data)
    return png_of([header, (b"eXIf", exif), *others])


def files(orientation, order="<", size=(40, 56)):
    """One of each kind, all with this orientation."""
    pixels = picture(*size)
    exif = tiff(orientation, order)
    yield "baseline", oriented_jpeg(encode(pixels, "JPEG", quality=90), exif)
    yield "4:4:4", oriented_jpeg(encode(pixels, "JPEG", subsampling=0), exif)
    yield "progressive", oriented_jpeg(encode(pixels, "JPEG", progressive=True), exif)
    yield "grey", oriented_jpeg(encode(pixels, "JPEG", "L"), exif)
    yield "CMYK", oriented_jpeg(encode(pixels, "JPEG", "CMYK"), exif)
    yield "PNG", oriented_png(encode(pixels, "PNG"), exif)
    yield "palette PNG", oriented_png(encode(pixels, "PNG", "P"), exif)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(40, 56), (61, 33)], ids=["landscape", "portrait"])
def test_the_eight_orientations_are_opencv_s(orientation, size):
    cv2 = pytest.importorskip("cv2")
    for name, data in files(orientation, ">" if orientation % 2 else "<", size):
        found = decode.decode_image(data, name)
        if name != "CMYK":  # whose colours OpenCV converts in another way
            expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
            assert found.shape == expected.shape, name
            assert np.abs(found.astype(int) - expected).max() <= (0 if "PNG" in name or name == "4:4:4" else 4), name
        pillow = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        assert np.array_equal(found, np.array(pillow)), name


@needs_native
@pytest.mark.parametrize("orientation", range(1, 9))
def test_native_equals_the_reference_and_windows_equal_the_whole(orientation):
    generator = random.Random(orientation)
    for name, data in files(orientation):
        whole = NATIVE.decode_image(data)
        assert np.array_equal(whole, decode.decode_image_reference(data, name)), name
        assert NATIVE.image_size(data) == decode.image_size_reference(data, name) == whole.shape[:2]
        for _ in range(12):
            top, left = generator.randrange(whole.shape[0]), generator.randrange(whole.shape[1])
            bottom = generator.randint(top + 1, whole.shape[0])
            right = generator.randint(left + 1, whole.shape[1])
            part = NATIVE.decode_image(data, (top, bottom, left, right))
            assert np.array_equal(part, whole[top:bottom, left:right]), (name, top, bottom, left, right)


def test_ignore_takes_the_stored_image():
    stored = Decoding(apply_exif=False)
    for name, data in files(6):
        assert decode.decode_image(data, name, stored).shape == (40, 56, 3), name
        assert decode.image_size(data, name, stored) == (40, 56)
        assert np.array_equal(
            decode.decode_image(data, name, stored), decode.decode_image_reference(data, name, stored)
        )


def test_labels_are_never_turned():
    label = np.arange(6, dtype=np.uint8).reshape(2, 3)
    data = oriented_png(encode(label, "PNG"), tiff(6))
    assert np.array_equal(decode.decode_label(data, "x"), label)
    assert np.array_equal(decode.decode_label_reference(data, "x"), label)


PLAIN = encode(picture(20, 30), "JPEG")
ODD = {
    "after other segments": (oriented_jpeg(PLAIN, tiff(6), segment(0xE2, b"x" * 99), segment(0xFE, b"words")), 6),
    "after another APP1": (oriented_jpeg(PLAIN, tiff(6), segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0")), 6),
    "the first of two": (oriented_jpeg(oriented_jpeg(PLAIN, tiff(3)), tiff(6)), 6),
    "a directory further on": (oriented_jpeg(PLAIN, tiff(8, ">", directory=40, before=5)), 8),
    "orientation 0": (oriented_jpeg(PLAIN, tiff(0)), 1),
    "orientation 9": (oriented_jpeg(PLAIN, tiff(9)), 1),
    "another type": (oriented_jpeg(PLAIN, tiff(6, kind=5)), 1),
    "two values": (oriented_jpeg(PLAIN, tiff(6, count=2)), 1),
    "no byte order": (oriented_jpeg(PLAIN, b"XX" + tiff(6)[2:]), 1),
    "another magic": (oriented_jpeg(PLAIN, tiff(6)[:2] + b"\x2b\0" + tiff(6)[4:]), 1),
    "cut off": (oriented_jpeg(PLAIN, tiff(6)[:-8]), 1),
    "empty": (oriented_jpeg(PLAIN, b""), 1),
    "a directory beyond the end": (oriented_jpeg(PLAIN, tiff(6)[:4] + b"\xff\xff\xff\xff" + tiff(6)[8:]), 1),
    "more entries than there are": (oriented_jpeg(PLAIN, tiff(1)[:8] + b"\xff\xff" + tiff(1)[10:22]), 1),
    "behind the scan": (PLAIN + segment(0xE1, b"Exif\0\0" + tiff(6)), 1),
    "in a PNG behind its pixels": (png_of([*chunks_of(encode(picture(20, 30), "PNG"))[:-1], (b"eXIf", tiff(6)),
                                           (b"IEND", b"")]), 6),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_and_hostile_headers(name):
    data, orientation = ODD[name]
    shape = (30, 20, 3) if orientation >= 5 else (20, 30, 3)
    assert exif_orientation(data) == orientation
    assert decode.decode_image(data, "x").shape == decode.decode_image_reference(data, "x").shape == shape


@needs_native
def test_damaged_headers_mean_the_same_natively():
    """A thousand damaged Exif segments of a sound file: read, or passed over, by both in the same way."""
    generator = random.Random(0)
    turned = 0
    for i in range(1000):
        exif = tiff(generator.randint(1, 8), generator.choice("<>"), before=generator.randrange(3))
        data = oriented_jpeg(PLAIN, damaged(exif, generator))
        size = NATIVE.image_size(data)
        assert size == decode.image_size_reference(data, "x"), i
        turned += size == (30, 20)
    assert 50 < turned < 950


def test_an_unknown_chunk_before_it_does_not_matter():
    data = encode(picture(20, 30), "PNG")
    header = chunks_of(data)[0]
    data = data[: 8 + 25] + chunk(b"tEXt", b"Title\0words") + chunk(b"eXIf", tiff(6)) + data[8 + 25 :]
    assert header[0] == b"IHDR"
    assert decode.decode_image(data, "x").shape == (30, 20, 3)
