"""JSON and XML files of labelling tools: read within limits, and their values by name and type."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn
from xml.etree import ElementTree
from xml.parsers import expat

from deeplab_fast.data.sources import read_bytes
from deeplab_fast.errors import UserError
from deeplab_fast.storage.files import parse_json

MOST_BYTES = 1 << 30
_KINDS = {"a list": list, "an object": dict, "text": str, "a whole number": int, "a number": (int, float)}


def read_json(path: Path, expected: str) -> dict[str, Any]:
    """Read a JSON file whose top is an object.

    Raises:
        UserError: it is missing, too large or no such JSON; says what was ``expected``.
    """
    data = _read(path, expected)
    try:
        content = parse_json(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8; expected {expected}") from None
    except ValueError as error:
        why = str(error) if isinstance(error, json.JSONDecodeError) else "nested too deeply, or a number too long"
        raise UserError(f"{path}: no JSON ({why}); expected {expected}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no JSON object; expected {expected}")
    return content


def read_xml(path: Path, expected: str) -> ElementTree.Element:
    """Read an XML file without entities of its own: one that declares a document type is refused.

    Raises:
        UserError: it is missing, too large, or no such XML; says what was ``expected``.
    """
    data = _read(path, expected)
    builder, parser = ElementTree.TreeBuilder(), expat.ParserCreate()

    def refuse(*_: object) -> NoReturn:
        raise UserError(f"{path}, line {parser.CurrentLineNumber}: declares a document type; expected {expected}")

    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    parser.buffer_text = True
    try:
        parser.Parse(data, True)
        return builder.close()
    except (expat.ExpatError, LookupError, ValueError, AssertionError) as error:
        raise UserError(f"{path}: no XML ({error}); expected {expected}") from None


def field(record: Mapping[str, Any], name: str, kind: str, where: str) -> Any:
    """Return a value of a JSON object; ``kind`` is such as ``"a list"``.

    Raises:
        UserError: it is missing or of another kind; begins with ``where``.
    """
    value = record.get(name) if isinstance(record, dict) else None
    if not isinstance(value, _KINDS[kind]) or isinstance(value, bool):  # type: ignore[arg-type]
        found = "missing" if value is None else f"{_short(value)}"
        raise UserError(f"{where}: {name!r}: {found}; expected {kind}")
    return value


def objects(record: Mapping[str, Any], name: str, where: str) -> list[dict[str, Any]]:
    """Return a list of JSON objects.

    Raises:
        UserError: as :func:`field`, or one of them is none.
    """
    found: list[dict[str, Any]] = field(record, name, "a list", where)
    for index, value in enumerate(found):
        if not isinstance(value, dict):
            raise UserError(f"{where}: {name!r}, number {index}: {_short(value)}; expected an object")
    return found


def attribute(element: ElementTree.Element, name: str, where: str) -> str:
    """Return an attribute of an XML element, or raise :class:`UserError` where it has none."""
    value = element.get(name)
    if value is None:
        raise UserError(f"{where}: <{element.tag}> has no {name!r}")
    return value


def numeric_attribute(element: ElementTree.Element, name: str, where: str, default: str | None = None) -> float:
    """Return an attribute that is a finite number, or raise :class:`UserError`."""
    text = attribute(element, name, where) if default is None else element.get(name, default)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where}: <{element.tag}> has {name}={text[:40]!r}; expected a finite number")
    return value


def whole_attribute(element: ElementTree.Element, name: str, where: str, default: str | None = None) -> int:
    """Return an attribute that is a whole number, or raise :class:`UserError`."""
    value = numeric_attribute(element, name, where, default)
    if value != int(value):
        raise UserError(f"{where}: <{element.tag}> has {name}={value:g}; expected a whole number")
    return int(value)


def shown(name: str) -> str:
    """Return a file's name as it may stand in a message of one line."""
    return name if name.isprintable() else repr(name)


def _read(path: Path, expected: str) -> bytes:
    try:
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path}: {why}; expected {expected}") from None
    if size > MOST_BYTES:
        raise UserError(f"{path}: {size:,} bytes; expected at most {MOST_BYTES:,}")
    return read_bytes(path)


def _short(value: object) -> str:
    text = repr(value) if not isinstance(value, list | dict) else f"a {type(value).__name__}"
    return text if len(text) <= 40 else f"{text[:37]}..."
