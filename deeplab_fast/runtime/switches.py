"""Environment variables that are on or off."""

import os

from ..errors import UserError

ON = ("1", "true", "yes", "y", "on")  # Triton's words, too
OFF = ("", "0", "false", "no", "n", "off")


def environment_switch(name: str) -> bool:
    """Read an environment variable that is on (1, true, yes, on) or off (unset, empty, 0, false, no, off), in any case.

    Raises:
        UserError: it is something else.
    """
    value = os.environ.get(name, "")
    if value.lower() in ON:
        return True
    if value.lower() in OFF:
        return False
    raise UserError(f"{name}={value}: expected 1 or 0")
