"""Files made to harm, each of a kind that once did: what fuzzing found, as tests that need no corpus."""

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_fast.errors import UserError
from deeplab_fast.ops import decode_image, extension
from deeplab_fast.ops.input.decode import decode_image_reference
from deeplab_fast.ops.input.sample_loader import CropOptions, Jobs, SampleLoader
from tests.fuzz.bounds import measured

NATIVE = extension.decoder()[0]
pytestmark = pytest.mark.skipif(NATIVE is None, reason=f"no native decoder: {extension.decoder()[1]}")


def jpeg(seed=0, **options):
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 56, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **{"quality": 90, **options})
    return buffer.getvalue()


def without_segment(data, marker):
    """A JPEG less its segments of a kind, before the scan."""
    kept, at = data[:2], 2
    while data[at + 1] != 0xDA:
        end = at + 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
        if data[at + 1] != marker:
            kept += data[at:end]
        at = end
    return kept + data[at:]


def test_a_file_without_tables_does_not_borrow_those_of_the_file_before(tmp_path):
    """Or what it gives would depend on what its thread decoded last."""
    (tmp_path / "good.jpg").write_bytes(jpeg(progressive=True))
    (tmp_path / "bad.jpg").write_bytes(without_segment(jpeg(progressive=True), 0xDB))
    Image.fromarray(np.zeros((40, 56), np.uint8)).save(tmp_path / "label.png")
    files = [str(tmp_path / name) for name in ("good.jpg", "bad.jpg", "label.png")]
    loader = SampleLoader(files, CropOptions(33, 1.0, 1.0, True, 255), 2, threads=0)
    extracts = np.array([[0, 0, -1, -1, 2, 0, -1, -1], [1, 0, -1, -1, 2, 0, -1, -1]])
    jobs = Jobs(extracts, np.zeros((2, 4)), np.empty((0, 12), np.int32))
    failures = loader.wait(loader.submit(jobs, loader.new_crops(2)))
    assert [(f.place, f.fault) for f in failures] == [(1, "image")]
    assert "Quantization table" in failures[0].text


@pytest.mark.parametrize("step", [40, 100, 255])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}], ids=["4:2:0", "4:4:4"])
def test_values_beyond_any_picture_are_libjpeg_s(step, options):
    """Quantisation steps so large that sums leave 16 bits: our own inverse DCT must not answer for those."""
    data = jpeg(**options)
    at = data.index(b"\xff\xdb") + 5
    data = data[:at] + bytes([step]) * 64 + data[at + 64 :]
    whole = decode_image(data, "x")
    assert np.array_equal(whole, decode_image_reference(data, "x"))
    assert np.array_equal(NATIVE.decode_image(data, (8, 30, 10, 50)), whole[8:30, 10:50])


@pytest.mark.parametrize("sampling", [0x00, 0x10, 0x51, 0xFF])
def test_impossible_sampling_factors_are_refused(sampling):
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((40, 56), np.uint8)).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    data[data.index(b"\xff\xc0") + 11] = sampling
    with pytest.raises(UserError, match="cannot be decoded"):
        decode_image(bytes(data), "x")


def test_a_code_of_all_ones_is_refused():
    """T.81 allows none (C.2), and libjpeg refuses it: our own tables must not be laxer, or crops would differ."""
    data = jpeg(optimize=False)
    at = data.index(b"\xff\xc4\x00\x1f\x00")  # the usual table of luminance DC: 12 codes, the longest 111111110
    counts, symbols = bytearray(data[at + 5 : at + 21]), data[at + 21 : at + 33]
    counts[8] += 1
    table = b"\xff\xc4\x00\x20\x00" + bytes(counts) + symbols + b"\x00"
    with pytest.raises(UserError, match="Bogus Huffman table"):
        decode_image(data[:at] + table + data[at + 33 :], "x")


@pytest.mark.parametrize("decode", [decode_image, decode_image_reference])
def test_a_run_of_0xff_takes_no_long_time(decode):
    """Take what erased memory holds: such bytes may stand before any marker, and in a scan before a zero."""
    data = jpeg()
    scan = data.index(b"\xff\xda") + 40
    filled = data[:scan] + b"\xff" * 300_000
    with measured() as used:
        for end in (b"", b"\xd0", b"\0" * 9, b"\xd9"):
            with pytest.raises(UserError, match="cannot be decoded"):
                decode(filled + end, "x")
        assert np.array_equal(decode(data[:-2] + b"\xff" * 300_000 + data[-1:], "x"), decode(data, "x"))
    assert used.seconds < 5


def test_an_incomplete_progressive_file_is_refused_in_every_window():
    """Scans left out: libjpeg would smooth what it has, looking beyond the window."""
    data = jpeg(progressive=True)
    scans = [i for i in range(len(data) - 1) if data[i : i + 2] == b"\xff\xda"]
    data = data[: scans[2]] + b"\xff\xd9"
    for window in ((0, 40, 0, 56), (0, 8, 0, 8), (9, 33, 17, 40), (30, 40, 50, 56)):
        with pytest.raises(NATIVE.DecodeError, match="Premature end"):
            NATIVE.decode_image(data, window)


def test_a_chunk_that_claims_much_memory_gets_none(tmp_path):
    """A few bytes of PNG whose text chunk says it has almost 2 GB."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 11, 7, 8, 2, 0, 0, 0))
    for i, name in enumerate((b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"sPLT", b"abcd")):
        text = struct.pack(">I", 0x7FFFFFF0) + name + b"Title\0\0text"
        (tmp_path / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + text)
    (tmp_path / "paths.txt").write_text("\n".join(str(tmp_path / f"{i}.png") for i in range(6)))
    program = Path(__file__).with_name("decode_files.py")
    environment = {**os.environ, "PYTHONPATH": str(Path(NATIVE.__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, program, tmp_path / "paths.txt"], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert all(result["refusal"] for both in outcome["files"].values() for result in both.values())
    assert outcome["growth_mb"] is None or outcome["growth_mb"] < 64


def test_bytes_that_are_not_in_a_row_are_refused():
    data = bytearray(jpeg())
    for view in (memoryview(data)[::-1], memoryview(data)[::2]):
        with pytest.raises(TypeError, match="contiguous"):
            NATIVE.image_size(view)


GOOD = {"file": 0, "scale": 0.5, "place": 0, "colour": 4096}


@pytest.mark.parametrize(
    "change", [{"file": 2}, {"file": -1}, {"scale": 1.0}, {"scale": np.nan}, {"place": -1}, {"colour": 1 << 25}]
)
def test_a_job_of_numbers_out_of_range_is_refused(change):
    """Files by number, draws and places come as bare arrays: none may lead beside the memory that is there."""
    numbers = {**GOOD, **change}
    loader = SampleLoader(["/nowhere/a", "/nowhere/b"], CropOptions(33, 1.0, 1.0, True, 255), 2, threads=0)
    extracts = np.array([[numbers["file"], 0, -1, -1, 1, 0, -1, -1]])
    jobs = Jobs(extracts, np.array([[numbers["scale"], 0, 0, 0]]), np.full((1, 12), numbers["colour"], np.int32))
    with pytest.raises(ValueError, match="loader: "):
        loader.submit(jobs, loader.new_crops(1), [numbers["place"]])


@pytest.mark.parametrize(
    "options", [(0, 1.0, 1.0), (33, 2.0, 1.0), (33, np.nan, 1.0), (33, 1.0, np.inf), (33, 0.0, 1.0)]
)
def test_crops_of_numbers_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="loader: "):
        SampleLoader(["/nowhere/a"], CropOptions(*options, True, 255), 2, threads=0)
