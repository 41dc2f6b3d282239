"""BMP, TIFF and WebP: the pixels that are there, in every mode that is taken, and a name for what is not."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, features

from deeplab_fast.errors import UserError
from deeplab_fast.ops import Decoding, exif_orientation, pillow_format
from deeplab_fast.ops.input import decode
from deeplab_fast.ops.input.exif import turned
from deeplab_fast.ops.input.pillow_formats import encode_png

pytestmark = pytest.mark.gpu

RGB = np.kron(np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8), np.ones((4, 4, 1), np.uint8))[:19, :26]
COMPRESSIONS = [None, *(("tiff_lzw", "tiff_deflate", "packbits", "jpeg") if features.check("libtiff") else ())]


def encoded(image, file_format, **options):
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, file_format, **options)
    return buffer.getvalue()


def tiff(array, *, bits=None, sample_format=1, channels=None, tile=None):
    """A TIFF written by hand: one uncompressed strip."""
    height, width = array.shape[:2]
    channels = channels or (array.shape[2] if array.ndim == 3 else 1)
    body = array.tobytes()
    entries = [
        (256, 4, width), (257, 4, height), (258, 3, bits or 8 * array.itemsize), (259, 3, 1),
        (262, 3, 2 if channels >= 3 else 1), (273, 4, 8), (277, 3, channels), (278, 4, height), (279, 4, len(body)),
        (339, 3, sample_format),
    ]  # fmt: skip
    if tile:
        entries += [(322, 4, tile), (323, 4, tile)]
    directory = struct.pack("<H", len(entries))
    for tag, kind, value in sorted(entries):
        directory += struct.pack("<HHII", tag, kind, 1, value)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory + b"\0" * 4


@pytest.fixture(params=["dispatched", "reference"])
def functions(request):
    """(decode_image, image_size, decode_label) of the dispatched functions, and of the reference."""
    suffix = "" if request.param == "dispatched" else "_reference"
    return tuple(getattr(decode, name + suffix) for name in ("decode_image", "image_size", "decode_label"))


def whole_files():
    for compression in COMPRESSIONS:
        yield f"TIFF {compression}", encoded(RGB, "TIFF", compression=compression)
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        picture = Image.fromarray(RGB).convert(mode)
        yield f"BMP {mode}", encoded(picture, "BMP")
        yield f"TIFF {mode}", encoded(picture, "TIFF")
        yield f"WebP {mode}", encoded(picture, "WEBP", lossless=True)
    yield "WebP lossy", encoded(RGB, "WEBP", quality=50)


FILES = dict(whole_files())


@pytest.mark.parametrize("name", FILES)
def test_pixels_and_size(functions, name):
    image, size, _ = functions
    data = FILES[name]
    assert pillow_format(data) == name.split()[0]
    assert np.array_equal(image(data, "x"), np.array(Image.open(io.BytesIO(data)).convert("RGB")))
    assert size(data, "x") == (19, 26)
    if "RGB" in name or name in ("TIFF None", "TIFF tiff_lzw"):
        assert np.array_equal(image(data, "x"), RGB)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's of damaged tags
@pytest.mark.parametrize("name", FILES)
def test_what_is_cut_off_is_refused_or_the_same(functions, name):
    """Some files end with what no pixel rests on."""
    data = FILES[name]
    expected = functions[0](data, "x")
    said = []
    for end in range(4, len(data), max(1, len(data) // 40)):
        try:
            assert np.array_equal(functions[0](data[:end], "a.file"), expected), end
        except UserError as error:
            said.append(str(error))
    assert len(said) > 20
    assert all(text.startswith("a.file: ") and "\n" not in text for text in said)


@pytest.mark.parametrize("file_format", ["TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(functions, file_format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(RGB, file_format, exif=exif, **({"lossless": True} if file_format == "WEBP" else {}))
    assert exif_orientation(data) == orientation
    expected = turned(RGB, orientation)
    assert np.array_equal(functions[0](data, "x"), expected)
    assert functions[1](data, "x") == expected.shape[:2]
    assert np.array_equal(functions[0](data, "x", Decoding(apply_exif=False)), RGB)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (tiff(np.zeros((4, 5), np.uint16)), "TIFF of 16 bits a channel; expected 8-bit grey"),
        (tiff(np.zeros((4, 5, 3), np.uint16)), "TIFF of 16 bits a channel"),
        (tiff(np.zeros((4, 5), np.float32), sample_format=3), "TIFF of 32-bit floating-point numbers"),
        (tiff(np.zeros((4, 5, 3), np.float64), sample_format=3), "TIFF of 64-bit floating-point numbers"),
        (tiff(np.zeros((4, 5), np.int8), sample_format=2), "TIFF of 8-bit signed or complex numbers"),
        (tiff(np.zeros((4, 5, 7), np.uint8)), "TIFF of 7 channels"),
        (tiff(np.zeros((4, 5), np.uint8), tile=1 << 14), "tiles of 16384x16384 pixels"),
        (encoded(Image.new("CMYK", (5, 4)), "TIFF"), "TIFF of mode CMYK; expected 8-bit grey, palette or RGB"),
        (encoded(RGB, "TIFF", save_all=True, append_images=[Image.new("RGB", (5, 4))]), "TIFF of several pages"),
        (encoded(RGB, "WEBP", save_all=True, append_images=[Image.fromarray(RGB[::-1])]), "WebP with an animation"),
        (b"II+\0" + bytes(40), "BigTIFF; expected plain TIFF or PNG"),
        (b"GIF89a" + bytes(40), r"unknown format\); expected JPEG, PNG, BMP, TIFF or WebP"),
        (b"BM", "cannot be decoded"),
        (b"II*\0", "cannot be decoded"),
        (b"RIFF\0\0\0\0WEBP", "cannot be decoded"),
    ],
)
def test_what_is_not_taken_is_named(functions, data, words):
    for function in functions[:2]:
        with pytest.raises(UserError, match=rf"a\.tif: .*{words}"):
            function(data, "a.tif")


@pytest.mark.parametrize("name", FILES)
def test_too_many_pixels_are_refused_before_decoding(functions, name, monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    monkeypatch.setattr("PIL.WebPImagePlugin._webp.WebPAnimDecoder", None)
    for function in functions[:2]:
        with pytest.raises(UserError, match=r"x: 26x19 pixels; expected at most 400 \(--max_pixels\)"):
            function(FILES[name], "x", Decoding(max_pixels=400))


def test_a_label_is_none_of_them(functions):
    with pytest.raises(UserError, match=r"x: not a readable image \(unknown format\); expected PNG"):
        functions[2](FILES["BMP L"], "x")


def test_a_bmp_whose_pixel_names_no_colour(functions):
    picture = Image.fromarray(np.array([[0, 3]], np.uint8)).convert("P")
    picture.putpalette([9] * 12)
    data = bytearray(encoded(picture, "BMP"))
    assert struct.unpack_from("<I", data, 46) == (4,)  # colours
    assert functions[0](bytes(data), "x").tolist() == [[[9, 9, 9]] * 2]
    data[struct.unpack_from("<I", data, 10)[0] + 1] = 4
    with pytest.raises(UserError, match="a pixel names no colour of the palette"):
        functions[0](bytes(data), "x")


@pytest.mark.parametrize("orientation", [1, 6])
def test_png_in_place_of_others_has_the_same_pixels(orientation):
    data = encode_png(RGB, orientation)
    assert data == encode_png(RGB, orientation)
    assert np.array_equal(decode.decode_image(data, "x"), turned(RGB, orientation))
    assert np.array_equal(decode.decode_image(data, "x", Decoding(apply_exif=False)), RGB)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA"])
def test_rows_are_converted_some_at_a_time_to_the_same_pixels(mode, monkeypatch):
    image = Image.fromarray(RGB).convert(mode)
    file = encoded(image, "TIFF")
    whole = decode.decode_image(file, "x")
    assert np.array_equal(whole, np.asarray(image.convert("RGBA" if mode == "PA" else "RGB").convert("RGB")))
    for pixels in (1, 60):
        monkeypatch.setattr("deeplab_fast.ops.input.pillow_formats._CONVERTED_AT_ONCE", pixels)
        assert np.array_equal(decode.decode_image(file, "x"), whole)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["TIFF", "WEBP", "BMP"])
def test_pillow_s_own_limit_does_not_stand_below_ours(kind, monkeypatch):
    """It would warn beyond its limit and refuse beyond twice that; it is as before afterwards."""
    file = io.BytesIO()
    Image.new("RGB", (30, 20), (9, 9, 9)).save(file, kind)
    for limit in (500, 100):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert decode.decode_image(file.getvalue(), "x", Decoding(True, 600)).shape == (20, 30, 3)
        assert limit == Image.MAX_IMAGE_PIXELS
        with pytest.raises(UserError, match="expected at most 599"):
            decode.decode_image(file.getvalue(), "x", Decoding(True, 599))
