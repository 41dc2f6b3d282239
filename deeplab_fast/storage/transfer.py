"""One try to bring the bytes of a URL: from where an earlier try ended, if they are still of the same version."""

import base64
import http.client
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from tqdm import tqdm

from ..config.urls import public
from ..config.whole_number import whole_number
from .files import reason
from .object_store import OBJECT_SCHEMES, StoredObject, StoreError
from .partial import Partial
from .remote import RemoteFile

TIMEOUT_S = 30.0  # without a byte
CHUNK = 1 << 16
_RESERVED = "%/:=&?~#+!$,;'@()*[]"  # these stay as they are in a URL
_MAY_PASS = (408, 416, 425, 429)  # and all from 500 on
_ABSENT = (403, 404, 410)  # a store that may not be listed says 403 of what it does not have
_LASTING = (ssl.SSLCertVerificationError, FileNotFoundError, IsADirectoryError, PermissionError)


class TransferFailed(Exception):
    """Bytes did not come; says why on one line.

    ``may_pass``: the same URL may give them at another try. ``absent``: there is no such file, or it is not for us.
    """

    def __init__(self, why: str, may_pass: bool, absent: bool = False) -> None:
        super().__init__(why)
        self.may_pass, self.absent = may_pass, absent


def transfer(url: str, remote: RemoteFile, partial: Partial) -> None:
    """Bring what is missing of ``url`` into ``partial``: all of it, where its server has another version by now.

    Raises:
        TransferFailed: not all of it came; what came stays for the next try where that can go on from it.
        UserError: the disk is full.
    """
    have = partial.begun(url)
    if have and have == partial.total:
        return
    with _opened(url, have, partial) as response, partial.halt.reaching(response):
        if response.status == 206 and have:
            _check_continued(response.headers, partial)
        else:
            _begin(url, response.headers, remote, partial)
        if partial.total is not None:
            partial.check_room(partial.total - partial.came)
        _read(response, remote, partial)


def _read(response: Any, remote: RemoteFile, partial: Partial) -> None:
    total = remote.size if partial.total is None else partial.total
    bar = tqdm(
        desc=remote.name,
        total=total,
        initial=partial.came,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        disable=None if partial.shows_bar else True,
    )
    with bar:
        while data := _chunk(response, partial):
            partial.add(data)
            bar.update(len(data))
            if total is not None and partial.came > total:
                partial.drop()
                raise TransferFailed(f"gives more than the {total:,} bytes expected", may_pass=False)
            if remote.most is not None and partial.came > remote.most:
                partial.drop()
                raise TransferFailed(f"gives more than {remote.most:,} bytes, the most expected", may_pass=False)
    if total is not None and partial.came < total:
        raise TransferFailed(f"ended after {partial.came:,} of {total:,} bytes", may_pass=True)


def _chunk(response: Any, partial: Partial) -> bytes:
    try:
        return bytes(response.read(CHUNK))
    except http.client.IncompleteRead as error:
        partial.add(error.partial)
        raise TransferFailed(f"ended after {partial.came:,} bytes", may_pass=True) from None
    except StoreError as error:
        raise TransferFailed(str(error), error.may_pass) from None
    except (OSError, http.client.HTTPException) as error:
        raise _failed(error) from None


def _request(url: str, have: int, validator: str) -> urllib.request.Request:
    url, user = _without_user(url)
    request = urllib.request.Request(
        _quoted(url), headers={"User-Agent": "deeplab_fast", "Accept-Encoding": "identity"}
    )
    if user:
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(user.encode()).decode()}")
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", validator)
    return request


def _without_user(url: str) -> tuple[str, str]:
    """Return a URL without user and password, and these, decoded."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    return (parts._replace(netloc=host).geturl(), unquote(user)) if at else (url, "")


def _quoted(url: str) -> str:
    """Return a URL with what no URL contains, such as spaces and umlauts, written in per cent signs."""
    parts = urlsplit(url)
    return parts._replace(path=quote(parts.path, _RESERVED), query=quote(parts.query, _RESERVED)).geturl()


def _check_continued(headers: Any, partial: Partial) -> None:
    """Raise :class:`TransferFailed`, and drop what came, where the bytes do not go on from its end."""
    unit, _, rest = headers.get("Content-Range", "").partition(" ")
    begin, total = rest.partition("-")[0], rest.rpartition("/")[2]
    known = partial.total is not None and total.isdecimal()
    if unit.lower() != "bytes" or begin != str(partial.came) or (known and whole_number(total) != partial.total):
        partial.drop()
        raise TransferFailed("answers with other bytes than those asked for", may_pass=True)


def _begin(url: str, headers: Any, remote: RemoteFile, partial: Partial) -> None:
    """Make room for the whole file; raise :class:`TransferFailed` where it has another size than it may have."""
    total = whole_number(headers.get("Content-Length", ""))
    if remote.size is not None and total is not None and total != remote.size:
        raise TransferFailed(f"has {total:,} bytes; expected {remote.size:,}", may_pass=False)
    if remote.most is not None and total is not None and total > remote.most:
        raise TransferFailed(f"has {total:,} bytes; expected at most {remote.most:,}", may_pass=False)
    etag = headers.get("ETag", "").strip()
    strong = etag.startswith('"')  # If-Range takes no other
    partial.begin(url, etag if strong else headers.get("Last-Modified", "").strip(), total)


@contextmanager
def _opened(url: str, have: int, partial: Partial) -> Iterator[Any]:
    try:
        if urlsplit(url).scheme in OBJECT_SCHEMES:
            response: Any = StoredObject(url, have, partial.validator)
        else:
            response = _opener().open(_request(url, have, partial.validator), timeout=TIMEOUT_S)
    except StoreError as error:
        raise TransferFailed(str(error), error.may_pass, error.absent) from None
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # there are no bytes after those that came
            partial.drop()
        may_pass = error.code in _MAY_PASS or error.code >= 500
        why = " ".join(f"HTTP status {error.code} {error.reason}".split())
        raise TransferFailed(why, may_pass, error.code in _ABSENT) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _failed(error) from None
    with response:
        yield response


def _failed(error: Exception) -> TransferFailed:
    """Return an error of the network in words."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return TransferFailed(f"no answer within {TIMEOUT_S:g} s", may_pass=True)
    if isinstance(cause, OSError):
        unknown_host = isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME
        may_pass = not (unknown_host or isinstance(cause, _LASTING))
        return TransferFailed(public(reason(cause)), may_pass, isinstance(cause, FileNotFoundError))
    if isinstance(cause, http.client.InvalidURL | ValueError):  # whose words may hold a part of a password or query
        return TransferFailed("not a URL that can be read", may_pass=False)
    may_pass = isinstance(cause, http.client.HTTPException)
    return TransferFailed(" ".join(public(str(cause)).split()) or type(cause).__name__, may_pass)


def _opener() -> urllib.request.OpenerDirector:
    """Return what opens http, https and file URLs, through the proxies of the environment, and no other scheme."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.FileHandler,
    ):
        opener.add_handler(handler())
    return opener
