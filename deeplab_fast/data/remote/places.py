"""Places of the shards that a URL names: one, a brace's range of them, a set, or the only set of a folder."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote, urlsplit

from deeplab_fast.config.urls import public
from deeplab_fast.errors import UserError
from deeplab_fast.storage.object_store import OBJECT_SCHEMES
from deeplab_fast.storage.remote import SCHEMES

_MOST = 1 << 20  # shards of a set
_RANGE = re.compile(r"([0-9]{1,18})\.\.([0-9]{1,18})")
_FITTING = "%/:=&?~#+!$,;'@()*[]"  # kept as they are in a URL


@dataclass(frozen=True)
class Place:
    """A folder elsewhere, and the names of files in it that a URL names: none where it is the folder's own.

    ``text``: flag and URL as errors name them, without what may be secret.
    """

    text: str
    folder: SplitResult
    names: tuple[str, ...]

    def url(self, name: str) -> str:
        """Return the URL of a file of the folder."""
        return self.folder._replace(path=self.folder.path + quote(name)).geturl()

    @property
    def public_folder(self) -> str:
        return public(self.url(""))


def place_of(url: str, option: str) -> Place:
    """Take a URL apart; braces in its last part are expanded, as WebDataset does: ``voc-{00000..00003}.tar``.

    Raises:
        UserError: a scheme that cannot be read, no host, braces that make no sense, or names that are no tar shards.
    """
    text = f"--{option}={public(url.replace(' ', '%20'))}"
    try:
        parts = urlsplit(quote(url, safe=_FITTING + "{}"))
        parts.port  # noqa: B018 (raises where it is no number)
    except ValueError:
        raise UserError(f"{text}: not a URL; expected such as https://HOST/voc-{{00000..00003}}.tar") from None
    if parts.scheme not in (*SCHEMES, *OBJECT_SCHEMES) or not (parts.netloc or parts.scheme == "file"):
        schemes = ", ".join(f"{scheme}://" for scheme in (*SCHEMES, *OBJECT_SCHEMES))
        raise UserError(f"{text}: not a URL that can be read; expected one of {schemes} and a host or bucket")
    folder, slash, last = parts.path.rpartition("/")
    if "{" in folder or "}" in folder:
        raise UserError(f"{text}: braces in a folder's name; expected them in the file's name alone")
    names = tuple(_names(unquote(last), text)) if last else ()
    return Place(text, parts._replace(path=folder + (slash or "/"), fragment=""), names)


def _names(pattern: str, text: str) -> Iterator[str]:
    seen = set()
    for name in _expanded(pattern, text):
        if not name.endswith(".tar") or "/" in name or "\\" in name or "\0" in name:
            raise UserError(f"{text}: {name!r} is not a tar shard's name; a folder's URL ends in /")
        if name in seen:
            raise UserError(f"{text}: the braces name {name} twice")
        seen.add(name)
        yield name


def _expanded(pattern: str, text: str) -> Iterator[str]:
    """Yield every name that a pattern's braces stand for: ranges of numbers, or words with commas between."""
    pieces = re.split(r"\{([^{}]*)\}", pattern)
    plain, braces = pieces[::2], pieces[1::2]
    if any("{" in piece or "}" in piece for piece in plain):
        raise UserError(f"{text}: a brace without its other one, or one in another; expected such as {{00000..00003}}")
    choices = [_choices(brace, text) for brace in braces]
    count = 1
    for options in choices:
        count *= len(options)
    if count > _MOST:
        raise UserError(f"{text}: the braces name {count:,} shards; expected at most {_MOST:,}")
    for words in itertools.product(*choices):
        yield plain[0] + "".join(word + after for word, after in zip(words, plain[1:], strict=True))


def _choices(brace: str, text: str) -> list[str]:
    found = _RANGE.fullmatch(brace)
    if found is None:
        words = brace.split(",")
        if len(words) < 2:
            raise UserError(f"{text}: {{{brace}}} is no range; expected such as {{00000..00003}} or {{train,val}}")
        return words
    first, last = int(found[1]), int(found[2])
    if last < first:
        raise UserError(f"{text}: {{{brace}}} runs backwards; expected the smaller number first")
    if last - first >= _MOST:
        raise UserError(f"{text}: {{{brace}}} names {last - first + 1:,} shards; expected at most {_MOST:,}")
    padded = any(number.startswith("0") and len(number) > 1 for number in found.groups())
    width = max(map(len, found.groups())) if padded else 0
    return [f"{number:0{width}d}" for number in range(first, last + 1)]
