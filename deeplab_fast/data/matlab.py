"""Structures in MATLAB files of level 5, as far as the SBD's labels need them.

After the layout of level 5 in MathWorks' "MAT-File Format". SciPy's reader looks a number's type up in a table without
asking whether it is in it: one wrong byte in a file ends the program with SIGSEGV (SciPy 1.17).
"""

import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_HEADER = 128  # bytes: a text, the version, the order of bytes
_ORDERS = {b"IM": "<", b"MI": ">"}
_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_STRUCT, _NUMERIC = 2, range(6, 16)  # classes of arrays
_COMPLEX = 0x800
_MOST_BYTES = 1 << 28  # of what is compressed in a file: 900 times that of the largest of 80 files of the SBD

_Element = tuple[int, memoryview]  # its type, its content


def struct_field(data: bytes, variable: str, field: str) -> NDArray[Any]:
    """Read a field of a variable that is one structure: real numbers of any type, ``[rows, columns, ...]``.

    They come in the type in which they are stored, which may be smaller than MATLAB's own.

    Raises:
        ValueError: the file is damaged or of another kind, or no such numbers are in it.
    """
    order = _ORDERS.get(data[_HEADER - 2 : _HEADER], "")
    if not order or struct.unpack_from(f"{order}H", data, _HEADER - 4)[0] >> 8 != 1:
        raise ValueError("no MATLAB file of version 5 to 7")
    for kind, content in _elements(memoryview(data)[_HEADER:], order):
        if kind == _COMPRESSED:
            kind, content = next(_elements(_decompressed(content), order), (0, content))
        if kind != _MATRIX:
            raise ValueError(f"damaged: a variable of type {kind}")
        array = _Array(content, order)
        if array.name == variable:
            return array.field(field).numbers()
    raise ValueError(f"no {variable}")


def _elements(data: memoryview, order: str) -> Iterator[_Element]:
    """Yield what lies one behind the other, each behind a tag and filled up to 8 bytes; 4 bytes or less, in the tag."""
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            raise ValueError("cut short")
        kind, size = struct.unpack_from(f"{order}II", data, at)
        begin = at + 8
        if kind >> 16:
            kind, size, begin = kind & 0xFFFF, kind >> 16, at + 4
            if size > 4:
                raise ValueError(f"damaged: {size} bytes in a tag")
        if begin + size > len(data):
            raise ValueError("cut short")
        yield kind, data[begin : begin + size]
        at = begin + size
        if kind != _COMPRESSED:
            at += -at % 8


def _decompressed(content: memoryview) -> memoryview:
    stream = zlib.decompressobj()
    try:
        whole = stream.decompress(content, _MOST_BYTES)
    except zlib.error as error:
        raise ValueError(f"damaged: {error}") from None
    if not stream.eof:
        raise ValueError("cut short" if len(whole) < _MOST_BYTES else f"more than {_MOST_BYTES:,} bytes in it")
    return memoryview(whole)


class _Array:
    """An array's class, ``shape`` and name; its content is still to be read."""

    def __init__(self, content: memoryview, order: str) -> None:
        self._order, self._parts = order, _elements(content, order)
        flags = self._take(_UINT32)
        if len(flags) != 8:
            raise ValueError("damaged: an array without flags")
        self._flags = struct.unpack_from(f"{order}I", flags)[0]
        self.shape = self._integers()
        if len(self.shape) < 2 or min(self.shape) < 0:
            raise ValueError(f"damaged: an array of size {list(self.shape)}")
        self.name = bytes(self._take(_INT8)).decode("latin-1")

    def field(self, name: str) -> "_Array":
        """Return a field of one structure."""
        if self._flags & 0xFF != _STRUCT or math.prod(self.shape) != 1:
            raise ValueError(f"{self.name}: expected one structure")
        (length,) = self._integers()[:1] or (0,)
        if length < 1:
            raise ValueError(f"{self.name}: damaged: names of {length} bytes")
        names = bytes(self._take(_INT8))
        for at in range(0, len(names), length):
            content = self._take(_MATRIX)
            if names[at : at + length].rstrip(b"\0") == name.encode():
                return _Array(content, self._order)
        raise ValueError(f"{self.name}: no field {name}")

    def numbers(self) -> NDArray[Any]:
        """Return the array's numbers, ``[*shape]``."""
        if self._flags & 0xFF not in _NUMERIC or self._flags & _COMPLEX:
            raise ValueError(f"an array of class {self._flags & 0xFF}; expected real numbers")
        kind, content = next(self._parts, (0, memoryview(b"")))
        if kind not in _NUMBERS:
            raise ValueError(f"damaged: numbers of type {kind}")
        values = np.frombuffer(content, np.dtype(f"{self._order}{_NUMBERS[kind]}"))
        if len(values) != math.prod(self.shape):
            raise ValueError(f"damaged: {len(values):,} numbers in an array of size {list(self.shape)}")
        return values.reshape(self.shape, order="F")

    def _integers(self) -> tuple[int, ...]:
        content = self._take(_INT32)
        return struct.unpack(f"{self._order}{len(content) // 4}i", content[: len(content) // 4 * 4])

    def _take(self, expected: int) -> memoryview:
        kind, content = next(self._parts, (0, memoryview(b"")))
        if kind != expected:
            raise ValueError(f"damaged: an element of type {kind}; expected {expected}")
        return content
