"""An image at a URL: downloaded each time it is read, and kept nowhere."""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote

from ..config.urls import public
from ..data.sources import read_bytes
from ..errors import UserError
from ..storage.download import NotDownloaded, download
from ..storage.remote import RemoteFile

BYTES_A_PIXEL = 4  # of the largest files: RGBA, not compressed
_HEAD = 1 << 20  # bytes that no pixel needs, such as EXIF data and thumbnails
# Bytes of names: with what the names of results and of their temporary files have besides, less than 255.
_MOST_OF_NAME, _MOST_OF_SUFFIX = 180, 16


@dataclass(frozen=True)
class RemoteImage:
    """The image at a URL (http, https, file; s3 and gs with the extra ``remote``), of at most ``max_pixels``.

    Its text is the URL without what may be secret in it. White space in it is escaped, so that it does not seem to
    end there.
    """

    url: str
    max_pixels: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", re.sub(r"\s", lambda found: quote(found[0]), self.url))

    def __str__(self) -> str:
        return public(self.url)

    @property
    def name(self) -> str:
        """A name for it as a file: the last part of the URL's path, shortened where file systems would not take it."""
        path = public(self.url).partition("://")[2].partition("/")[2]
        last = PurePosixPath(unquote(path)).name
        name = PurePosixPath(re.sub(r"[\\/:*?\"<>|\x00-\x1f]", "_", last).strip(". ") or "image")
        return _shortened(name.stem, _MOST_OF_NAME) + _shortened(name.suffix, _MOST_OF_SUFFIX)

    def read_bytes(self) -> bytes:
        """Download the image, with the retries of all downloads, and return the bytes of its file.

        Raises:
            UserError: it cannot be downloaded, or has more bytes than an image of ``max_pixels``; names the URL.
        """
        most = _HEAD + BYTES_A_PIXEL * self.max_pixels
        with tempfile.TemporaryDirectory(prefix="deeplab_fast-") as folder:
            path = Path(folder) / "image"
            try:
                download(RemoteFile(self.name, (self.url,), most=most), path, shows_bar=False)
            except NotDownloaded as error:  # its advice is to save the file where this one is not kept
                raise UserError(error.why) from None
            return read_bytes(path)


def _shortened(text: str, most: int) -> str:
    """Return the beginning of a text that takes at most so many bytes in UTF-8."""
    return text.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")
