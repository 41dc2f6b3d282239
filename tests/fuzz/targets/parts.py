"""Inputs of several files: their lengths, then their bytes."""

import struct

_LENGTH = struct.Struct("<H")


def join(*parts: bytes) -> bytes:
    """Return one input of files; the last one's length is not stored."""
    heads = b"".join(_LENGTH.pack(min(len(part), 65535)) for part in parts[:-1])
    return heads + b"".join(part[:65535] for part in parts[:-1]) + parts[-1]


def split(data: bytes, count: int) -> list[bytes]:
    """Return the ``count`` files of an input."""
    at = _LENGTH.size * (count - 1)
    if len(data) < at:
        return [b""] * (count - 1) + [data]
    lengths = [_LENGTH.unpack_from(data, _LENGTH.size * i)[0] for i in range(count - 1)]
    parts = []
    for length in lengths:
        parts.append(data[at : at + length])
        at += length
    return [*parts, data[at:]]
