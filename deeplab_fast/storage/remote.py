"""A file that others publish: where it is, and what its publisher says of its bytes. Nothing is fetched here."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from ..errors import UserError
from .files import reason

SCHEMES = ("http", "https", "file")


@dataclass(frozen=True)
class RemoteFile:
    """A published file: its name, its URLs in the order to try them, and what its publisher says of its bytes.

    ``sha256``, ``md5``: lower-case hex digits, all of them or the first few, as many as are published; empty where none
    are. ``size``: bytes, None where nobody says. ``most``: bytes that are taken at most, None for any number.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str = ""
    md5: str = ""
    size: int | None = None
    most: int | None = None

    def fault(self, path: Path) -> str | None:
        """Return what tells a file from the published one, in words; None where it is that one.

        Raises:
            OSError: it cannot be read.
        """
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"has {size:,} bytes; expected {self.size:,}"
        for name, expected, make in (("SHA-256", self.sha256, hashlib.sha256), ("MD5", self.md5, _md5)):
            if not expected:
                continue
            found = _hex_digest(path, make)
            if not found.startswith(expected):
                begins = " to begin with" if len(expected) < len(found) else ""
                return f"its {name} is {found}; expected it{begins or ' to be'} {expected}"
        return None

    def tried_first_at(self, mirror: str, flag: str) -> "RemoteFile":
        """Return the same file with one more URL before the others: ``mirror``, or its name in a folder ending in /.

        ``flag``: what an error begins with.

        Raises:
            UserError: it is no URL of http, https or file.
        """
        url = quote(mirror, safe="%/:=&?~#+!$,;'@()*[]")
        try:
            parts = urlsplit(url)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in SCHEMES or not (parts.netloc or parts.scheme == "file"):
            raise UserError(f"{flag}: not a URL that can be read; expected {', '.join(f'{s}://' for s in SCHEMES)}...")
        return replace(self, urls=(url + quote(self.name) if url.endswith("/") else url, *self.urls))


def check_published(remote: RemoteFile, path: Path) -> None:
    """Check that a file that is there is the published one.

    Raises:
        UserError: it is another or cannot be read; says what to do.
    """
    try:
        fault = remote.fault(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({reason(error)})") from None
    if fault is not None:
        raise UserError(f"{path}: {fault}; move it away to have it downloaded again")


def _md5() -> Any:
    return hashlib.md5(usedforsecurity=False)  # it tells damage, which is all that its publishers use it for


def _hex_digest(path: Path, make: Callable[[], Any]) -> str:
    with path.open("rb") as file:
        return str(hashlib.file_digest(file, make).hexdigest())
