"""The wire format of protobuf messages, as far as checkpoints need it: fields in order, each with where it stands.

Source: https://protobuf.dev/programming-guides/encoding. Nothing is read beyond the bytes given.
"""

from collections.abc import Iterator
from dataclasses import dataclass

VARINT, LENGTH = 0, 2
_FIXED = {1: 8, 5: 4}  # bytes of a field, by its kind
_LONGEST = 10  # bytes of a varint: 64 bits


class Damaged(Exception):
    """Bytes that are no such message; ``at`` says where, counted from the file's beginning."""

    def __init__(self, at: int, reason: str) -> None:
        super().__init__(reason)
        self.at = at


@dataclass(frozen=True)
class Field:
    """A field: its number and kind, its value (a number, or bytes), where it stands and where its bytes begin."""

    number: int
    kind: int
    at: int
    start: int
    integer: int = 0
    payload: memoryview = memoryview(b"")  # noqa: RUF009 (immutable)

    def text(self) -> str:
        """Return the bytes as UTF-8.

        Raises:
            Damaged: they are not.
        """
        try:
            return bytes(self.payload).decode()
        except UnicodeDecodeError:
            raise Damaged(self.start, "a name that is not UTF-8") from None

    def varints(self) -> list[int]:
        """Return the numbers of a packed field.

        Raises:
            Damaged: one is cut off.
        """
        numbers, position = [], 0
        while position < len(self.payload):
            number, position = _varint(self.payload, position, self.start)
            numbers.append(number)
        return numbers


def fields_of(data: memoryview, base: int = 0) -> Iterator[Field]:
    """Yield the fields of a message; ``base``: where it begins in its file.

    Raises:
        Damaged: a field is of an unknown kind, or reaches beyond the message.
    """
    position = 0
    while position < len(data):
        at = position
        key, position = _varint(data, position, base)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            integer, position = _varint(data, position, base)
            yield Field(number, kind, base + at, base + position, integer=integer)
            continue
        if kind == LENGTH:
            length, position = _varint(data, position, base)
        elif kind in _FIXED:
            length = _FIXED[kind]
        else:
            raise Damaged(base + at, f"a field of the unknown kind {kind}")
        if length > len(data) - position:
            raise Damaged(base + at, f"a field of {length:,} bytes, where {len(data) - position:,} are left")
        yield Field(number, kind, base + at, base + position, payload=data[position : position + length])
        position += length


def _varint(data: memoryview, position: int, base: int) -> tuple[int, int]:
    """Return the number at ``position``, and where it ends."""
    number = 0
    for i, byte in enumerate(data[position : position + _LONGEST]):
        number |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return number, position + i + 1
    raise Damaged(base + position, "a number that does not end")


def encode_varint(number: int, value: int) -> bytes:
    """Return a field that holds an integer of at least 0."""
    return _as_varint(number << 3 | VARINT) + _as_varint(value)


def encode_bytes(number: int, payload: bytes | memoryview) -> bytes:
    """Return a field that holds bytes."""
    return b"".join((_as_varint(number << 3 | LENGTH), _as_varint(len(payload)), payload))


def _as_varint(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
