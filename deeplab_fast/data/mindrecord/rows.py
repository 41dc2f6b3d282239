"""The rows of a MindRecord file: blob rows and raw rows, paired in the order of their pages.

A blob row is a length (8 bytes, little-endian) and that many bytes: its one field, or, for each of several fields, a
length (8 bytes, big-endian) and its bytes. A raw row is a length (little-endian) and a MessagePack map.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import msgpack

from deeplab_fast.errors import UserError

from ..ranges import OpenFile
from .header import BLOB, LENGTH, RAW, Header, Page

_FIELD_LENGTH = struct.Struct(">Q")


@dataclass(frozen=True)
class Row:
    """A row: its plain fields, and for each blob field the offset in the file and the size of its bytes.

    ``blob_at``, ``raw_at``: page number, and in it where the row begins and ends.
    """

    fields: dict[str, Any]
    blobs: dict[str, tuple[int, int]]
    blob_at: tuple[int, int, int]
    raw_at: tuple[int, int, int]


def rows_of(header: Header) -> list[Row]:
    """Find all rows of a file; of the blobs only their lengths are read.

    Raises:
        UserError: a row reaches beyond its page, or the pages do not hold the rows that the header says; names the
            byte.
    """
    try:
        file = OpenFile(header.path)
        raw = list(_raw_rows(header, file))
        blobs = list(_blob_rows(header, file))
    except OSError as error:
        raise UserError(f"{header.path}: {error.strerror}") from None
    if len(raw) != len(blobs):
        raise UserError(f"{header.path}: {len(raw)} rows of fields and {len(blobs)} of blobs; expected as many")
    return [
        Row(fields, ranges, blob_at, raw_at) for (fields, raw_at), (ranges, blob_at) in zip(raw, blobs, strict=True)
    ]


def _raw_rows(header: Header, file: OpenFile) -> Iterator[tuple[dict[str, Any], tuple[int, int, int]]]:
    for page in header.of_type(RAW):
        content = file.read(page.begin, page.used)
        for begin, end in _row_ends(header, page, lambda at, content=content: content[at : at + LENGTH.size]):
            packed = content[begin + LENGTH.size : end]
            try:
                fields = msgpack.unpackb(packed, raw=False, strict_map_key=True)
            except (ValueError, msgpack.UnpackException):
                fields = None
            if not isinstance(fields, dict):
                _refuse(header, page.begin + begin, "a row that is no MessagePack map")
            yield fields, (page.number, begin, end)


def _blob_rows(header: Header, file: OpenFile) -> Iterator[tuple[dict[str, tuple[int, int]], tuple[int, int, int]]]:
    expected = 0
    for page in header.of_type(BLOB):
        if page.first != expected:
            _refuse(header, page.begin, f"page {page.number} begins with row {page.first}; expected {expected}")
        for begin, end in _row_ends(header, page, lambda at, page=page: file.read(page.begin + at, LENGTH.size)):
            fields = _fields_in(header, file, page.begin + begin + LENGTH.size, page.begin + end)
            yield fields, (page.number, begin, end)
            expected += 1
        if expected != page.last:
            _refuse(header, page.begin, f"page {page.number} has rows up to {expected}; its header says {page.last}")


def _row_ends(header: Header, page: Page, length_at: Any) -> Iterator[tuple[int, int]]:
    """Yield where each row of a page begins and ends, counted from the page's beginning."""
    at = 0
    while at < page.used:
        encoded = length_at(at)
        left = page.used - at - LENGTH.size
        length = LENGTH.unpack(encoded)[0] if len(encoded) == LENGTH.size else left + 1
        if length > left:
            _refuse(header, page.begin + at, f"a row of {length:,} bytes, where {max(left, 0):,} are left in its page")
        yield at, at + LENGTH.size + length
        at += LENGTH.size + length


def _fields_in(header: Header, file: OpenFile, begin: int, end: int) -> dict[str, tuple[int, int]]:
    """Find the blob fields of a row that lies from ``begin`` to ``end``."""
    names = header.blob_fields
    if len(names) == 1:
        return {names[0]: (begin, end - begin)}
    found, at = {}, begin
    for name in names:
        encoded = file.read(at, _FIELD_LENGTH.size)
        left = end - at - _FIELD_LENGTH.size
        length = _FIELD_LENGTH.unpack(encoded)[0] if len(encoded) == _FIELD_LENGTH.size else left + 1
        if length > left:
            _refuse(header, at, f"{name} of {length:,} bytes, where {max(left, 0):,} are left in its row")
        found[name] = (at + _FIELD_LENGTH.size, length)
        at += _FIELD_LENGTH.size + length
    if at != end:
        _refuse(header, at, f"{end - at:,} bytes after the last field of a row")
    return found


def _refuse(header: Header, at: int, reason: str) -> NoReturn:
    raise UserError(f"{header.path}: byte {at:,}: {reason}; damaged, or cut off?")
