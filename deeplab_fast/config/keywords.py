"""Flags as the keywords of a call in Python: checked as the command line's, with the values that Python has."""

import dataclasses
import difflib
import os
import typing
from collections.abc import Collection, Mapping
from typing import Any

from ..errors import UserError
from .flags import AUTO, choices_of, validate


def flags_of(config_class: type, keywords: Mapping[str, Any], known: Collection[str] | None = None) -> dict[str, Any]:
    """Return keywords as checked flags of ``config_class``.

    Lists become tuples, paths text; ``auto`` and switches get the values that ``config_class`` has for them.
    ``known``: the flags that are taken; default: all.

    Raises:
        UserError: a keyword is no such flag, or its value is not one that the flag takes.
    """
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    names, hints = list(fields if known is None else known), typing.get_type_hints(config_class)
    given: dict[str, Any] = {}
    for name, value in keywords.items():
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            raise UserError(f"{name}: unknown flag{f'; did you mean {near[0]}?' if near else ''}")
        given[name] = _value(value, hints[name], fields[name].metadata)
    validate(config_class(**given))
    return given


def _value(value: Any, hint: Any, metadata: Mapping[str, Any]) -> Any:
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        return tuple(value)
    if hint is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, bool) and str(value) in choices_of(hint):  # a switch with a third position
        return str(value)
    return AUTO if metadata.get("auto") and value == "auto" else value
