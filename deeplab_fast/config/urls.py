"""URLs among the flags: how they are told from paths, and named without what may be secret in them."""

import dataclasses
import re
from typing import Any

_BEGIN = r"[A-Za-z][A-Za-z0-9+.-]{1,31}://"  # without a limit a text of one long word is searched from each letter
_URL = re.compile(rf"({_BEGIN})(\S*)")
_USER = re.compile(r"[^:\[\]]+:(?![0-9]*$).*")  # what stands before a host where its password has a / or ?


def is_url(text: str) -> bool:
    """Tell whether a flag's text is a URL, of whatever scheme, instead of a path."""
    return re.match(_BEGIN, text) is not None


def public(text: str) -> str:
    """Return a text with its URLs shortened to what anyone may read: no user, password, query or fragment."""
    return _URL.sub(lambda found: found[1] + _shortened(found[2]), text)


def _shortened(rest: str) -> str:
    if _USER.fullmatch(re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]):
        rest = rest.rpartition("@")[2] if "@" in rest else ""
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, path = rest.partition("/")
    return host.rpartition("@")[2] + slash + path


def public_fields(config: Any) -> dict[str, Any]:
    """Return the fields of a dataclass of flags as files keep them: their URLs as :func:`public` has them."""
    fields = dataclasses.asdict(config)
    return {name: public(value) if isinstance(value, str) else value for name, value in fields.items()}
