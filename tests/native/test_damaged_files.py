"""One rule for damaged images: both ways decode, to the same pixels, or both refuse."""

import random
import zlib

import numpy as np
import pytest

from deeplab_fast.errors import UserError
from deeplab_fast.ops import extension
from deeplab_fast.ops.input import decode
from tests.native.mutations import chunks_of, encode, jpegs, mutants, picture, png_of, pngs

NATIVE = extension.decoder()[0]
FUNCTIONS = ("decode_image", "decode_label", "image_size")
needs_native = pytest.mark.skipif(NATIVE is None, reason=f"no native decoder: {extension.decoder()[1]}")


def outcome(function, data):
    """Pixels or a size, or None where it is refused."""
    try:
        return function(data, "x")
    except UserError:
        return None


def disagreements(files):
    """Names of the files that the two ways take otherwise, and how many both took and refused."""
    found, taken, refused = [], 0, 0
    for name, data in files:
        for function in FUNCTIONS:
            native = outcome(getattr(decode, function), data)
            reference = outcome(getattr(decode, f"{function}_reference"), data)
            if (native is None) != (reference is None):
                found.append(f"{name}, {function}: only one refuses it")
            elif native is None:
                refused += 1
            elif np.array_equal(native, reference):
                taken += 1
            else:
                found.append(f"{name}, {function}: other pixels")
    return found, taken, refused


@needs_native
def test_sound_files_are_taken_by_both():
    assert disagreements([*jpegs(40, 56), *pngs(23, 37)])[0] == []


@needs_native
@pytest.mark.parametrize(("files", "count"), [
    (list(jpegs(40, 56)), 500), (list(pngs(23, 37)), 500), (list(jpegs(200, 270)), 60),
], ids=["JPEG", "PNG", "larger JPEG"])  # fmt: skip
def test_damaged_files_are_taken_by_both_or_refused_by_both(files, count):
    found, taken, refused = disagreements(mutants(files, count))
    assert found == []
    assert taken > count // 20
    assert refused > count // 2


@needs_native
def test_the_malformed_corpus_is_taken_by_both_or_refused_by_both(shared_data):
    files = [(p.name, p.read_bytes()) for p in sorted((shared_data / "malformed").rglob("*")) if p.is_file()]
    assert len(files) == 502
    found, taken, refused = disagreements(files)
    assert found == []
    assert min(taken, refused) > 100


@needs_native
@pytest.mark.parametrize(("files", "count"), [
    (list(jpegs(40, 56)), 400), (list(jpegs(200, 270)), 60), (list(pngs(23, 37)), 200),
], ids=["JPEG", "larger JPEG", "PNG"])  # fmt: skip
def test_what_is_damaged_is_refused_whatever_the_window(files, count):
    """Else a file would be bad in some epochs only."""
    generator = random.Random(0)
    for name, data in mutants(files, count, seed=1):
        whole = outcome(decode.decode_image, data)
        height, width = whole.shape[:2] if whole is not None else (8, 8)
        top, left = generator.randrange(height), generator.randrange(width)
        bottom, right = generator.randint(top + 1, height), generator.randint(left + 1, width)
        try:
            part = NATIVE.decode_image(data, (top, bottom, left, right))
        except (NATIVE.DecodeError, ValueError):  # the window is not in the image
            part = None
        assert (whole is None) == (part is None), name
        assert whole is None or np.array_equal(part, whole[top:bottom, left:right]), name


# ---------------------------------------------------------------- what is damaged, by name


@pytest.fixture(params=["dispatched", "reference"])
def functions(request):
    """(decode_image, decode_label) of the dispatched functions, and of the reference."""
    suffix = "" if request.param == "dispatched" else "_reference"
    return getattr(decode, f"decode_image{suffix}"), getattr(decode, f"decode_label{suffix}")


def scan_of(data):
    """Where the first scan's data begin."""
    at = data.index(b"\xff\xda")
    return at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def replaced(data, place, new):
    return data[:place] + new + data[place + len(new) :]


LARGE = encode(picture(300, 400), "JPEG", quality=95)
RESTARTS = encode(picture(64, 64), "JPEG", restart_marker_blocks=2)
PROGRESSIVE = encode(picture(64, 64), "JPEG", progressive=True)
LAST_SCAN = PROGRESSIVE.rindex(b"\xff\xda")
# Of the same blocks as one of 65500 rows, and sound but for its size.
TALL = encode(np.zeros((65500, 16), np.uint8), "JPEG").replace(
    bytes([8, 0xFF, 0xDC, 0, 16]), bytes([8, 0xFF, 0xE0, 0, 16]), 1
)


JPEG_DAMAGE = {
    "a side of more than 65500 pixels": TALL,
    # libjpeg's fast loop takes it for zeros, without a warning, wherever a few kB follow
    "bits that are no code": replaced(LARGE, scan_of(LARGE) + 3000, b"\xff\x00" * 24),
    "data missing in the middle": LARGE[: scan_of(LARGE) + 3000] + b"\xff\xd9",
    "no end marker": LARGE[:-2],
    "cut off": LARGE[: len(LARGE) // 2],
    "a restart marker out of its turn": RESTARTS.replace(b"\xff\xd1", b"\xff\xd5", 1),
    "a restart marker missing": RESTARTS.replace(b"\xff\xd1", b"", 1),
    "scans missing": PROGRESSIVE[:LAST_SCAN] + b"\xff\xd9",
    "a scan twice": PROGRESSIVE[:-2] + PROGRESSIVE[LAST_SCAN:],
    "arithmetic coding": LARGE.replace(b"\xff\xc0", b"\xff\xc9", 1),
    "lossless coding": LARGE.replace(b"\xff\xc0", b"\xff\xc3", 1),
}


@pytest.mark.parametrize("name", JPEG_DAMAGE)
def test_damaged_jpegs_are_refused(functions, name):
    with pytest.raises(UserError, match=r"^a\.jpg: cannot be decoded at byte \d+ of \d+ \("):
        functions[0](JPEG_DAMAGE[name], "a.jpg")


HARMLESS = {
    "bytes behind the end": LARGE + b"more",
    "bytes before a restart marker": RESTARTS.replace(b"\xff\xd1", b"abc\xff\xd1", 1),
    "bytes before the end marker": LARGE[:-2] + b"abc\xff\xd9",
    "bytes between segments": LARGE.replace(b"\xff\xc0", b"abc\xff\xc0", 1),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_bytes_that_no_pixel_rests_on_are_passed_over(functions, name):
    sound = RESTARTS if "restart" in name else LARGE
    assert np.array_equal(functions[0](HARMLESS[name], "x"), functions[0](sound, "x"))


def png_damage():
    """By name: label files, each with one thing wrong."""
    label = encode((picture(30, 40)[..., 0] % 5).astype(np.uint8), "PNG", "P")
    chunks = chunks_of(label)
    place = next(i for i, (name, _) in enumerate(chunks) if name == b"IDAT")
    pixels = zlib.decompress(chunks[place][1])

    def with_stream(stream):
        return png_of([*chunks[:place], (b"IDAT", stream), *chunks[place + 1 :]])

    yield "too much image data", with_stream(zlib.compress(pixels + bytes(41)))
    yield "not enough image data", with_stream(zlib.compress(pixels[:-41]))
    yield "corrupt image data", with_stream(zlib.compress(pixels)[:-4] + b"abcd")
    yield "wrong checksum of chunk", label[:-4] + b"abcd"
    yield "premature end", label[:-12]
    yield "in two places", png_of([*chunks[: place + 1], (b"tEXt", b"a\0b"), (b"IDAT", b""), *chunks[place + 1 :]])
    yield "unknown critical chunk", png_of([*chunks[:place], (b"ABCD", b""), *chunks[place:]])
    yield "no palette", png_of([c for c in chunks if c[0] != b"PLTE"])


PNG_DAMAGE = dict(png_damage())


@pytest.mark.parametrize("words", PNG_DAMAGE)
@pytest.mark.parametrize("which", [0, 1], ids=["image", "label"])
def test_damaged_pngs_are_refused(functions, which, words):
    with pytest.raises(UserError, match=r"^a\.png: cannot be decoded at byte \d+ of \d+ \("):
        functions[which](PNG_DAMAGE[words], "a.png")


def test_a_colour_that_is_not_there_is_refused_and_a_class_without_a_colour_is_not(functions):
    """A label's palette need not name its classes: 255 of VOC's border often has no colour."""
    label = np.full((30, 40), 3, np.uint8)
    label[-1, -1] = 255
    chunks = chunks_of(encode(label, "PNG"))
    header = chunks[0][1][:9] + b"\3" + chunks[0][1][10:]
    data = png_of([(b"IHDR", header), (b"PLTE", bytes(63)), *chunks[1:]])
    assert np.array_equal(functions[1](data, "x"), label)
    with pytest.raises(UserError, match="a pixel names no colour of the palette"):
        functions[0](data, "x")
