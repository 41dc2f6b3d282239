"""The header of a MindRecord file: a length (8 bytes, little-endian), that much JSON, zeros up to ``header_size``."""

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeplab_fast.errors import UserError
from deeplab_fast.storage.files import parse_json, raise_if_broken

from ..lists import is_text

VERSION = "3.0"
BLOB, RAW = "BLOB_DATA", "RAW_DATA"
LENGTH = struct.Struct("<Q")
_MOST_JSON = 1 << 28  # bytes


@dataclass(frozen=True)
class Page:
    """A page: its place among all pages and among those of its type, its first byte, how many bytes are used, and the
    rows ``first`` up to ``last`` that it holds (blob pages)."""

    number: int
    type: str
    type_number: int
    begin: int
    used: int
    first: int
    last: int


@dataclass(frozen=True)
class Header:
    """The header of a file: its number among the ``shards`` (names) of the set, its blob fields in order, its pages."""

    path: Path
    number: int
    shards: list[str]
    fields: dict[str, str]  # types by name
    blob_fields: list[str]
    pages: list[Page]

    def of_type(self, page_type: str) -> list[Page]:
        """Return the pages of a type, in the order of their rows."""
        return sorted((page for page in self.pages if page.type == page_type), key=lambda page: page.type_number)


def is_mindrecord(path: Path) -> bool:
    """Tell from its first bytes whether a file is a MindRecord; none of a tar file's are such.

    Raises:
        UserError: the system cannot read it.
    """
    try:
        with path.open("rb") as file:
            start = file.read(LENGTH.size + 1)
    except OSError as error:
        raise_if_broken(path, error)
        return False
    return len(start) == LENGTH.size + 1 and start[-1:] == b"{" and LENGTH.unpack(start[:-1])[0] <= _MOST_JSON


def read_header(path: Path) -> Header:
    """Read the header of a file, whose pages all lie within the file then.

    Raises:
        UserError: it is no MindRecord, of another version, or damaged.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(LENGTH.size)
            length = LENGTH.unpack(start)[0] if len(start) == LENGTH.size else 0
            text = file.read(length) if 0 < length <= min(size, _MOST_JSON) else b""
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if len(text) < max(length, 1):
        raise UserError(f"{path}: byte 0: a header of {length:,} bytes in a file of {size:,}; not a MindRecord")
    try:
        return _header_of(path, parse_json(text), size, LENGTH.size + length)
    except _Wrong as error:
        raise UserError(f"{path}: header at byte {LENGTH.size}: {error}") from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise UserError(f"{path}: byte {LENGTH.size}: not a MindRecord's header, or damaged") from None


class _Wrong(Exception):
    """A header whose content cannot be; the text says what."""


def _header_of(path: Path, content: dict[str, Any], size: int, end: int) -> Header:
    """Check what a header says; raises what JSON of another shape raises, or :class:`_Wrong`."""
    if content["version"] != VERSION:
        raise _Wrong(f"version {str(content['version'])[:40]!r}; expected {VERSION}")
    if content.get("compression_size"):
        raise _Wrong("its rows are compressed; expected a file written without compression")
    schemas = content["schema"]
    if len(schemas) != 1:
        raise _Wrong(f"{len(schemas)} schemas; expected one")
    schema, shards = schemas[0], [_file_name(name) for name in content["shard_addresses"]]
    fields = {_text(name): _text(kind["type"]) for name, kind in schema["schema"].items()}
    number, header_size, page_size = (_count(content[name]) for name in ("shard_id", "header_size", "page_size"))
    if number >= len(shards):
        raise _Wrong(f"file {number} of {len(shards)}")
    if header_size < end:
        raise _Wrong(f"header_size {header_size:,}; expected at least {end:,}")
    pages = [_page(page, header_size, page_size) for page in content["page"]]
    for page in pages:
        if page.used > page_size or page.begin + page.used > size:
            raise _Wrong(
                f"page {page.number} ends at byte {page.begin + page.used:,}; the file has {size:,} bytes: cut off?"
            )
    if [page.number for page in pages] != list(range(len(pages))):
        raise _Wrong("its pages are not numbered in order")
    return Header(path, number, shards, fields, [_text(name) for name in schema["blob_fields"]], pages)


def _page(content: dict[str, Any], header_size: int, page_size: int) -> Page:
    kind = content["page_type"]
    if kind not in (BLOB, RAW):
        raise _Wrong(f"a page of type {str(kind)[:40]!r}; expected {BLOB} or {RAW}")
    names = ("page_id", "page_type_id", "page_size", "start_row_id", "end_row_id")
    number, type_number, used, first, last = (_count(content[name]) for name in names)
    return Page(number, kind, type_number, header_size + number * page_size, used, first, last)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 48:
        raise TypeError
    return value


def _file_name(value: Any) -> str:
    """Return the name of a file of the set, without the folders that it was written in."""
    name = os.path.basename(_text(value).replace("\\", "/"))
    if not name.strip(".") or "\0" in name or not is_text(name):
        raise _Wrong(f"a file of the set is named {str(value)[:80]!r}")
    return name


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
