"""Mutations of inputs, drawn from a seeded generator: of bytes, of lengths among them, and of JSON."""

import json
import struct
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

EXTREMES = (0, 1, 2, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**48, 2**63 - 1, 2**64 - 1)
ODD: list[Any] = [
    *(None, True, False, -1, 0, 1, 255, 256, 511, 512, 1.5, -0.0, 1e400, 2**31, 2**63, 10**30, 10**99, 10**400),
    *("", "a", "\ud800", "..", "a\0", "a\nb", "\u2028", "e\u0301", "1", [], {}, [[]], {"a": {}}, [0], [1e308, -1e308]),
]
WORDS = (b"1e999", b"NaN", b"-Infinity", b"99999999999999999999", b"-1", b"0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n",
         b"\0", b"\xc3\xa9", b"\xe2\x80\xa8", b"[", b"{", b"<", b"&#0;", b"\\ud800")  # fmt: skip


def mutate_bytes(data: bytes, most: int, generator: Random) -> bytes:
    """Return other bytes, of at most ``most``: one to four changes."""
    changed = bytearray(data)
    for _ in range(generator.choice((1, 1, 1, 2, 4))):
        generator.choice(CHANGES)(changed, generator)
    return bytes(changed[:most])


def _place(data: bytearray, generator: Random) -> int:
    return generator.randrange(len(data) + 1)


def _flip(data: bytearray, generator: Random) -> None:
    for _ in range(min(len(data), generator.choice((1, 1, 3)))):
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)


def _cut(data: bytearray, generator: Random) -> None:
    del data[_place(data, generator) :]


def _remove(data: bytearray, generator: Random) -> None:
    at = _place(data, generator)
    del data[at : at + generator.choice((1, 2, 4, 8, 40))]


def _repeat(data: bytearray, generator: Random) -> None:
    begin = _place(data, generator)
    part = data[begin : begin + generator.choice((1, 4, 16, 64, 300))]
    data[begin:begin] = part * generator.choice((1, 1, 2, 40))


def _splice(data: bytearray, generator: Random) -> None:
    begin, at = _place(data, generator), _place(data, generator)
    part = data[begin : begin + generator.choice((2, 8, 32, 128))]
    data[at : at + generator.choice((0, len(part)))] = part


def _number(data: bytearray, generator: Random) -> None:
    layout = generator.choice("BHIQ")
    size = struct.calcsize(layout)
    if len(data) < size:
        return
    at = generator.randrange(len(data) - size + 1)
    value = generator.choice(EXTREMES)
    if generator.random() < 0.5:  # near to what is there
        order = generator.choice("<>")
        value = struct.unpack_from(order + layout, data, at)[0] + generator.choice((-8, -1, 1, 8))
        struct.pack_into(order + layout, data, at, value % 256**size)
    else:
        struct.pack_into(generator.choice("<>") + layout, data, at, value % 256**size)


def _word(data: bytearray, generator: Random) -> None:
    at, word = _place(data, generator), generator.choice(WORDS)
    data[at : at + generator.choice((0, 1, len(word)))] = word


def _digits(data: bytearray, generator: Random) -> None:
    """A number that is written out becomes another."""
    places = [i for i, byte in enumerate(data) if 48 <= byte < 58]
    if places:
        at = generator.choice(places)
        end = at
        while end < len(data) and 48 <= data[end] < 58:
            end += 1
        data[at:end] = str(generator.choice((*EXTREMES, -1, 10**30))).encode()


CHANGES: tuple[Callable[[bytearray, Random], None], ...] = (
    *(_flip, _cut, _remove, _repeat, _splice, _number, _number, _word, _digits),
)


def places_in(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every (container, key) below a JSON value."""
    for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield node, key
        yield from places_in(node[key])


def mutate_tree(tree: Any, generator: Random) -> None:
    """Replace, remove, double, nest or move one value of a JSON tree; raises IndexError where it has none."""
    places = list(places_in(tree))
    container, key = generator.choice(places)
    kind = generator.randrange(10)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, list):
        container[key:key] = [container[key]] * generator.choice((1, 1, 100))
    elif kind in (2, 3) and type(container[key]) in (int, float):
        container[key] += generator.choice([-512, -1, 1, 512, 2**40])
    elif kind == 4:
        other, there = generator.choice(places)
        container[key] = json.loads(json.dumps(other[there]))
    elif kind == 5:
        container[key] = [container[key]]
    else:
        container[key] = generator.choice(ODD)


def mutate_json(text: bytes, generator: Random, bare: bytes = b"") -> bytes | None:
    """Return JSON with one value mutated; None where ``text`` is none. ``bare``: a word that stands for a number."""
    quoted = b'"' + bare + b'"'
    try:
        tree = json.loads(text.replace(bare, quoted) if bare else text)
        mutate_tree(tree, generator)
        encoded = json.dumps(tree).encode()
    except (ValueError, IndexError, RecursionError):
        return None
    return encoded.replace(quoted, bare) if bare else encoded
