"""Flags as the fields of a dataclass: an annotation, a default, a help text and limits.

:func:`validate` turns a bad value into one line that names the flag; :mod:`deeplab_fast.cli` makes a command line.
"""

import dataclasses
import math
import types
import typing
from typing import Any

from ..errors import UserError

AUTO = -1  # a whole number that is still to be found; flags spell it ``auto``, and 0 stays the mistake that it is


def flag(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    empty: bool = True,
    auto: bool = False,
) -> Any:
    """Return a dataclass field that is a flag.

    Its choices are those of its annotation, where that is a ``Literal``. ``minimum`` and ``maximum`` are inclusive,
    ``above`` exclusive; with ``empty`` a tuple may hold nothing; with ``auto`` a whole number may be :data:`AUTO`,
    whatever its limits.
    """
    limits = {"minimum": minimum, "maximum": maximum, "above": above, "empty": empty, "auto": auto}
    return dataclasses.field(default=default, metadata={"help": help, **limits})


def choices_of(hint: Any) -> tuple[Any, ...]:
    """Return the values that an annotation lists; empty where it lists none."""
    return typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()


def check_value(name: str, value: Any, hint: Any, metadata: Any) -> None:
    """Check a flag's value against the limits of its field, whose annotation is ``hint``.

    Raises:
        UserError: it is none of the choices or outside the limits; names the flag.
    """
    choices = choices_of(hint)
    if choices and value not in choices:
        raise UserError(f"--{name}={value}: expected one of {', '.join(map(str, choices))}")
    if value == () and not metadata.get("empty", True):
        raise UserError(f"--{name}: empty; expected at least one number")
    if metadata.get("auto") and value == AUTO:
        return
    for single in value if isinstance(value, tuple) else (value,):
        if not isinstance(single, int | float) or isinstance(single, bool):
            continue
        if isinstance(single, float) and not math.isfinite(single):
            raise UserError(f"--{name}={value}: expected a finite number")
        for limit, ok, words in (
            (metadata.get("minimum"), lambda v, m: v >= m, "at least"),
            (metadata.get("maximum"), lambda v, m: v <= m, "at most"),
            (metadata.get("above"), lambda v, m: v > m, "more than"),
        ):
            if limit is not None and not ok(single, limit):
                raise UserError(f"--{name}={value}: expected {words} {limit}{', or auto' * bool(metadata.get('auto'))}")


def check_type(name: str, value: Any, hint: Any) -> None:
    """Check that ``value``, which a file may hold, is of its field's type.

    Raises:
        UserError: it is not; names the flag.
    """
    if isinstance(hint, types.UnionType):
        if value is None:
            return
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    item, values = hint if not choices_of(hint) else type(choices_of(hint)[0]), [value]
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, tuple):
            raise UserError(f"--{name}={value!r}: expected numbers")
        item, values = typing.get_args(hint)[0], list(value)
    allowed = (int, float) if item is float else (item,)
    for single in values:
        if not isinstance(single, allowed) or (isinstance(single, bool) and item is not bool):
            expected = {bool: "True or False", int: "a whole number", float: "a number", str: "a word"}[item]
            raise UserError(f"--{name}={value!r}: expected {expected}")


def validate(config: Any) -> None:
    """Check every field of a dataclass of flags against its type and limits.

    Raises:
        UserError: names the flag and what was expected.
    """
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        check_type(field.name, getattr(config, field.name), hints[field.name])
        check_value(field.name, getattr(config, field.name), hints[field.name], field.metadata)
