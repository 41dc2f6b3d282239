"""MindRecord: two files of a set and the SQLite file beside the first."""

import contextlib
import io
import sqlite3
import struct
import tempfile
from pathlib import Path

from PIL import Image

from deeplab_fast.data.mindrecord import MindRecordSource
from deeplab_fast.data.mindrecord.header import read_header
from deeplab_fast.data.mindrecord.rows import rows_of
from deeplab_fast.data.pairs import decode_pair
from deeplab_fast.data.sources import keys_digest
from deeplab_fast.errors import UserError
from tests.fuzz.image_seeds import png
from tests.fuzz.mutation import mutate_json
from tests.mindrecord_writer import write_mindrecord

from .parts import join, split
from .records import check_places
from .target import DECODING, Target

SAMPLES = 8
LENGTH = struct.Struct("<Q")
HEADER = 1024


def read(data, folder):
    for name, content in zip(("s.mindrecord0.db", "s.mindrecord1", "s.mindrecord0"), split(data, 3), strict=True):
        if content:
            (folder / name).write_bytes(content)
    source = MindRecordSource(folder / "s.mindrecord0")
    keys_digest(source)
    for i in range(min(len(source), SAMPLES)):
        check_places(source, i)
        " ".join((source.key(i), *source.where(i))).encode()
        with contextlib.suppress(UserError):  # of this sample; the next one may be whole
            decode_pair(source.read(i), DECODING)


def with_header(file, header):
    """The file with another header, of as many bytes as it may have there."""
    return (LENGTH.pack(len(header)) + header).ljust(HEADER, b"\0") + file[HEADER:]


def mutate_header(file, generator):
    length = LENGTH.unpack_from(file)[0] if len(file) >= LENGTH.size else 0
    header = mutate_json(file[LENGTH.size : LENGTH.size + length], generator)
    return None if header is None else with_header(file, header)


def mutate(data, generator, mutate_bytes, most):
    parts = split(data, 3)
    at = generator.choice((0, 1, 2, 2, 2, 2))
    kind = generator.randrange(4)
    if kind == 0 and at == 0:
        parts[0] = b""
    elif kind < 2 or at == 0:
        parts[at] = mutate_bytes(parts[at], max(len(parts[at]), 64))
    elif kind == 2:
        parts[at] = mutate_header(parts[at], generator) or mutate_bytes(parts[at], max(len(parts[at]), 64))
    else:
        parts[at] = parts[at][:HEADER] + mutate_bytes(parts[at][HEADER:], max(len(parts[at]) - HEADER, 64))
    return join(*parts)[:most]


def database(path):
    """What MindSpore writes beside the file, as far as it is read."""
    rows = rows_of(read_header(path))
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.closing(sqlite3.connect(Path(folder) / "x.db")) as connection:
            connection.execute("PRAGMA page_size = 512")
            connection.execute("CREATE TABLE INDEXES (ROW_ID, PAGE_ID_RAW, PAGE_OFFSET_RAW, PAGE_OFFSET_RAW_END, "
                               "PAGE_ID_BLOB, PAGE_OFFSET_BLOB, PAGE_OFFSET_BLOB_END)")  # fmt: skip
            for number, row in enumerate(rows):
                connection.execute("INSERT INTO INDEXES VALUES (?,?,?,?,?,?,?)", (number, *row.raw_at, *row.blob_at))
            connection.commit()
        return (Path(folder) / "x.db").read_bytes()


def packed(rows, shards, with_database=False, change=None):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.mindrecord"
        if shards == 1:
            path = path.with_name("s.mindrecord0")
        first = write_mindrecord(path, rows, shards, header_size=HEADER, page_size=512, change=change)
        second = path.with_name("s.mindrecord1")
        return join(
            database(first) if with_database else b"", second.read_bytes() if shards > 1 else b"", first.read_bytes()
        )


def one_blob(header):
    header["schema"][0]["blob_fields"] = ["data"]


def seeds():
    image = io.BytesIO()
    Image.new("RGB", (2, 2)).save(image, "BMP")
    label = png(0, 1, size=(2, 2))
    rows = [(f"{name}.jpg", image.getvalue(), label) for name in ("a", "b", "c", "a")]
    yield "one", packed(rows[:1], 1)
    yield "set", packed(rows, 2)
    yield "database", packed(rows[:2], 1, with_database=True)
    yield "set-database", packed(rows[:3], 2, with_database=True)
    yield "one-blob", packed(rows[:1], 1, change=one_blob)


TARGET = Target("mindrecord", read, seeds, mutate, cpu_seconds=4, megabytes=64)
