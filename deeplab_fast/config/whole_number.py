"""Whole numbers in text that comes from outside."""

import os

from ..errors import UserError

_MOST_DIGITS = 19  # of 64 bits; of 4,300 Python makes no number


def whole_number(text: str) -> int | None:
    """Return the number that a text of decimal digits is; None where it is none, or has more of them than 64 bits."""
    return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else None


def environment_number(name: str, default: int, least: int = 0) -> int:
    """Read an environment variable that is a whole number, as torchrun sets them; unset or empty, it is ``default``.

    Raises:
        UserError: it is something else, or below ``least``.
    """
    value = os.environ.get(name, "").strip()
    number = whole_number(value) if value else default
    if number is None or number < least:
        raise UserError(f"{name}={value}: expected a whole number, at least {least}")
    return number
