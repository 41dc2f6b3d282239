"""Sizes in what torch.save wrote: where memory ends as it is read, whether the file asks for more than there can be."""

import pickletools
import re
import zipfile
from pathlib import Path

_ASKED = re.compile(r"tried to allocate (\d+) bytes")  # torch's words; Python says no amount
_MOST_BYTES = 1 << 47  # of the addresses that a process has


def asks_too_much(path: Path, error: Exception) -> bool:
    """Tell whether the file asks for more bytes than any machine gives, so that ``error`` says nothing of this one.

    Where torch says no amount, a number in the pickle of a zip file that is as large: none of ours holds one.
    """
    asked = _ASKED.search(str(error))
    if asked is not None:
        return int(asked[1]) >= _MOST_BYTES
    try:
        with zipfile.ZipFile(path) as parts:
            pickles = [parts.read(name) for name in parts.namelist() if name.endswith("/data.pkl")]
        return any(
            isinstance(argument, int) and argument >= _MOST_BYTES
            for content in pickles
            for _, argument, _ in pickletools.genops(content)
        )
    except (
        ValueError,
        OSError,
        RuntimeError,
        zipfile.BadZipFile,
    ):  # no zip file, or its pickle goes on with what is none
        return False
