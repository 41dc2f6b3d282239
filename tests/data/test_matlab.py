"""MATLAB files: what SciPy reads of whole ones, and no end of the program with damaged ones, as SciPy's has."""

import io
import struct
import zlib

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from deeplab_fast.data import matlab
from deeplab_fast.data.matlab import struct_field
from deeplab_fast.data.voc import SBD_DIR, sbd_label
from deeplab_fast.errors import UserError

LABEL = np.arange(12, dtype=np.uint8).reshape(3, 4)
TYPES = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", "?"]


def saved(fields, **options):
    buffer = io.BytesIO()
    savemat(buffer, {"other": 3.0, "GTcls": fields}, **options)
    return buffer.getvalue()


def element(order, kind, content):
    if 0 < len(content) <= 4:
        return struct.pack(f"{order}I", len(content) << 16 | kind) + content.ljust(4, b"\0")
    return struct.pack(f"{order}II", kind, len(content)) + content + bytes(-len(content) % 8)


def array(order, number, shape, name, *parts):
    flags = element(order, 6, struct.pack(f"{order}II", number, 0))
    sizes = element(order, 5, struct.pack(f"{order}{len(shape)}i", *shape))
    return element(order, 14, flags + sizes + element(order, 1, name) + b"".join(parts))


def written(order="<", values=None, shape=(3, 4), number=9, field=b"S"):
    """A file of one structure: a field that is empty, and one of numbers, :data:`LABEL` where nothing else is said."""
    length = len(field) + 1
    names = b"a".ljust(length, b"\0") + field + b"\0"
    values = element(order, 2, bytes(LABEL.T)) if values is None else values
    fields = array(order, 6, (0, 0), b"", element(order, 9, b"")) + array(order, number, shape, b"", values)
    head = b"MATLAB".ljust(124) + struct.pack(f"{order}H", 0x0100) + (b"IM" if order == "<" else b"MI")
    about = element(order, 5, struct.pack(f"{order}i", length)) + element(order, 1, names)
    return head + array(order, 2, (1, 1), b"GTcls", about, fields)


@pytest.mark.parametrize("do_compression", [False, True])
@pytest.mark.parametrize("kind", TYPES)
def test_numbers_are_those_that_scipy_reads(kind, do_compression):
    values = LABEL.astype(kind)
    data = saved({"Boundaries": np.array([LABEL, "x"], object), "Segmentation": values}, do_compression=do_compression)
    found = struct_field(data, "GTcls", "Segmentation")
    assert np.array_equal(found, loadmat(io.BytesIO(data))["GTcls"]["Segmentation"][0, 0])
    assert np.array_equal(found, values)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("field", [b"S", b"Segmentation"])
def test_either_order_of_bytes_is_read(order, field):
    values = np.array([[1, 2], [300, 4]], f"{order}i2")
    data = written(order, element(order, 3, values.tobytes("F")), (2, 2), 10, field)
    assert np.array_equal(struct_field(data, "GTcls", field.decode()), values)
    assert np.array_equal(loadmat(io.BytesIO(data))["GTcls"][field.decode()][0, 0], values)


def test_labels_of_the_sbd_are_those_that_scipy_reads(shared_data):
    files = sorted((shared_data / SBD_DIR / "cls").glob("*.mat"))
    assert files
    for path in files:
        data = path.read_bytes()
        assert np.array_equal(sbd_label(data, path.name), loadmat(io.BytesIO(data))["GTcls"]["Segmentation"][0, 0])


@pytest.mark.parametrize("do_compression", [False, True])
def test_a_wrong_byte_is_found_or_gives_other_numbers(do_compression):
    """SciPy ends the process at the type of some of the numbers."""
    data = saved({"Segmentation": LABEL}, do_compression=do_compression)
    generator = np.random.default_rng(0)
    refused = 0
    for at in range(124, len(data)):
        for value in {0, 255, data[at] ^ 1, data[at] ^ 128, int(generator.integers(256))} - {data[at]}:
            try:
                assert sbd_label(data[:at] + bytes([value]) + data[at + 1 :], "x.mat").size == LABEL.size
            except UserError:
                refused += 1
    assert refused > 500


def test_a_file_that_is_cut_short_is_refused():
    for data in (saved({"Segmentation": LABEL}), saved({"Segmentation": LABEL}, do_compression=True)):
        for size in range(len(data) - 8):
            with pytest.raises(UserError, match=r"^x\.mat: not an SBD label \(.+\); expected GTcls\.Segmentation$"):
                sbd_label(data[:size], "x.mat")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no MATLAB file of version 5 to 7"),
        (written()[:124] + b"\0\2IM" + written()[128:], "no MATLAB file of version 5 to 7"),  # 7.3: HDF5
        (written(number=4), "an array of class 4; expected real numbers"),
        (written(number=9 | 0x800), "expected real numbers"),
        (written(values=element("<", 0, bytes(12))), "damaged: numbers of type 0"),
        (written(values=element("<", 14, bytes(12))), "damaged: numbers of type 14"),
        (written(values=b""), "damaged: numbers of type 0"),
        (written(shape=(4, 4)), r"damaged: 12 numbers in an array of size \[4, 4\]"),
        (written(shape=(1 << 30, 1 << 30, 1 << 30)), "damaged: 12 numbers in an array of size"),
        (written(shape=(-1, -12)), r"damaged: an array of size \[-1, -12\]"),
        (written(shape=(12,)), r"damaged: an array of size \[12\]"),
        (written(values=element("<", 9, bytes(12))), "buffer size"),
        (saved({"Boundaries": LABEL}), "GTcls: no field S"),
        (saved(LABEL), "GTcls: expected one structure"),
        (saved("x"), "GTcls: expected one structure"),
    ],
    ids=range(15),
)
def test_what_is_no_label_is_named(data, words):
    with pytest.raises(ValueError, match=words):
        struct_field(data, "GTcls", "S")


def test_what_is_compressed_too_well_is_refused(monkeypatch):
    data = saved({"Segmentation": np.zeros((1000, 1000), np.uint8)}, do_compression=True)
    assert struct_field(data, "GTcls", "Segmentation").shape == (1000, 1000)
    monkeypatch.setattr(matlab, "_MOST_BYTES", 1 << 19)
    with pytest.raises(ValueError, match=r"more than 524,288 bytes in it"):
        struct_field(data, "GTcls", "Segmentation")


def test_an_end_of_a_compressed_variable_is_checked():
    packed = zlib.compress(written()[128:])
    head = written()[:128]
    assert np.array_equal(struct_field(head + struct.pack("<II", 15, len(packed)) + packed, "GTcls", "S"), LABEL)
    wrong = packed[:-1] + bytes([packed[-1] ^ 1])
    with pytest.raises(ValueError, match="damaged: Error -3 while decompressing data: incorrect data check"):
        struct_field(head + struct.pack("<II", 15, len(wrong)) + wrong, "GTcls", "S")
