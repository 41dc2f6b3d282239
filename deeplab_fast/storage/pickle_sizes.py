"""Sizes in what torch.save wrote: where memory ends as it is read, whether the file asks for more than there can be."""

import pickletools
import re
import zipfile
import zlib
from pathlib import Path

_ASKED = re.compile(r"tried to allocate (\d+) bytes")  # torch's words; Python says no amount
_MOST_BYTES = 1 << 47  # of the addresses that a process has


def asks_too_much(path: Path, error: Exception) -> bool:
    """Tell whether the file asks for more bytes than any machine gives, so that ``error`` says nothing of this one.

    Where no amount is said, it is Python's: of a bytearray, which none of our files has in its pickle.
    """
    asked = _ASKED.search(str(error))
    if asked is not None:
        return int(asked[1]) >= _MOST_BYTES
    try:
        with zipfile.ZipFile(path) as parts:
            pickles = [parts.read(name) for name in parts.namelist() if name.endswith("/data.pkl")]
        return any(map(_makes_an_endless_bytearray, pickles))
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OSError, ValueError):  # not zipped, or no pickle
        return False


def _makes_an_endless_bytearray(content: bytes) -> bool:
    arguments = [(operation.name, argument) for operation, argument, _ in pickletools.genops(content)]
    has_bytearray = any(name == "GLOBAL" and str(argument).endswith(" bytearray") for name, argument in arguments)
    return has_bytearray and any(isinstance(argument, int) and argument >= _MOST_BYTES for _, argument in arguments)
