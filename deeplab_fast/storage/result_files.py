"""Files of a result: what they are called, whose they are, and whether they are as they were written.

A mask, the PNG of the classes, carries a mark: what made it, and of which image. It has checksums, and holds digests of
the files beside it. Of a video's result each file carries the mark, and is whole where nothing is cut off.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from PIL.PngImagePlugin import PngImageFile

from ..errors import pass_on_memory
from .files import parse_json, raise_if_broken
from .video_files import is_cut_short, is_video, read_comment

MARK = "deeplab_fast"  # keyword of the PNG's text; a video's comment begins with it
DIGESTS = "deeplab_fast digests"  # another: JSON, the SHA-256 of each file beside the mask by its kind
_PNG_BEGIN = b"\x89PNG\r\n\x1a\n"
_PNG_END, _JPEG_END = b"\0\0\0\0IEND\xaeB`\x82", b"\xff\xd9"
_ZIP_END = b"PK\5\6"  # of the record that a zip file without a comment ends with
_ZIP_END_SIZE = 22

# Files beside the classes, by kind: what their names end with.
BESIDE = {"overlay": "_overlay.jpg", "probabilities": "_probabilities.npz", "probability": "_probability.png"}
_OF_VIDEO = {"classes": "_classes.mov", "overlay": ".mp4"}


def target_files(stem: Path, beside: Sequence[str] = (), of_video: bool = False) -> list[Path]:
    """Return the files of one result: the classes, then those of the kinds in ``beside``."""
    ends = _OF_VIDEO if of_video else {"classes": ".png", **BESIDE}
    return [stem.with_name(f"{stem.name}{ends[kind]}") for kind in ("classes", *beside)]


def content_digest(image: bytes) -> str:
    """Return what a mark says of the content of an image file."""
    return hashlib.sha256(image).hexdigest()


def file_digest(path: Path) -> str:
    """Return :func:`content_digest` of a file, however large.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _ends_with(path: Path, end: bytes) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(-len(end), os.SEEK_END)
            return file.read() == end
    except OSError as error:  # missing, or shorter than that
        pass_on_memory(error)
        raise_if_broken(path, error)
        return False


def _is_whole(path: Path) -> bool:
    """Tell whether a file of a result, of whatever kind, is there from beginning to end.

    Raises:
        UserError: the system cannot read it.
    """
    if is_video(path):
        return bool(read_mark(path)) and not is_cut_short(path)
    if path.suffix != ".npz":
        return _ends_with(path, _PNG_END if path.suffix == ".png" else _JPEG_END)
    try:
        with path.open("rb") as file:
            file.seek(-_ZIP_END_SIZE, os.SEEK_END)
            return file.read(len(_ZIP_END)) == _ZIP_END
    except OSError as error:
        pass_on_memory(error)
        raise_if_broken(path, error)
        return False


def find_damage(targets: Sequence[Path], kinds: Sequence[str]) -> Path | None:
    """Return the first file of a result that is missing or damaged; ``targets``: the mask, then those of ``kinds``.

    A mask of before there were digests in it tells nothing of the other files: they are whole where their ends are.

    Raises:
        UserError: the system cannot read one.
    """
    mask, *others = targets
    if is_video(mask):
        return next((path for path in targets if not _is_whole(path)), None)
    try:
        with PngImageFile(mask) as image:
            digests = parse_json(str(image.info.get(DIGESTS, "{}")))
            image.verify()  # the checksums of all its parts
    except Exception as error:  # whatever a damaged file makes Pillow say
        pass_on_memory(error)
        if isinstance(error, OSError):
            raise_if_broken(mask, error)
        return mask
    if not isinstance(digests, dict) or not _is_whole(mask):
        return mask
    for path, kind in zip(others, kinds, strict=True):
        try:
            if not (file_digest(path) == digests[kind] if kind in digests else _is_whole(path)):
                return path
        except OSError as error:
            raise_if_broken(path, error)
            return path
    return None


def is_beginning(mask: Path) -> bool:
    """Tell whether a file is the beginning of a mask, or empty: what a power cut or a full disk leaves."""
    try:
        if is_video(mask):
            return mask.stat().st_size == 0 or is_cut_short(mask)
        with mask.open("rb") as file:
            return _PNG_BEGIN.startswith(file.read(len(_PNG_BEGIN))) and not _ends_with(mask, _PNG_END)
    except OSError:  # a folder, a link to nothing
        return False


def read_mark(mask: Path) -> str:
    """Return the mark of a mask, or of any file of a video; empty where it has none.

    Raises:
        UserError: the system cannot read it.
    """
    if is_video(mask):
        keyword, _, mark = read_comment(mask).partition(" ")
        return mark if keyword == MARK else ""
    try:
        with PngImageFile(mask) as image:  # Image.open refuses a large one
            return str(image.info.get(MARK, ""))
    except Exception as error:  # whatever a damaged file makes Pillow say
        pass_on_memory(error)
        if isinstance(error, OSError):
            raise_if_broken(mask, error)
        return ""
