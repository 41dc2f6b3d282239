"""Video files by their containers: which files are taken for one, whether one is cut short, and its comment."""

import importlib.util
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ..errors import pass_on_memory

if TYPE_CHECKING:
    from av.container import InputContainer

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".mts", ".m2ts", ".wmv", ".3gp")
INSTALL = "needs the package av; pip install 'deeplab_fast[video]'"

# FFmpeg's names of the containers that these suffixes stand for, and of the bare streams that go by .mpg and .m4v.
# Others, such as its lists of files and its playlists, would have it read files that nobody named.
_FORMATS = "mov,matroska,avi,mpeg,mpegts,asf,mpegvideo,m4v,h264,hevc"

_EBML, _SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"  # of Matroska and WebM: the file's head, and all the rest


def is_video(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file is taken for a video, by the end of its name."""
    return os.path.splitext(path)[1].lower() in VIDEO_SUFFIXES


def can_read_videos() -> bool:
    """Tell whether the package av is installed."""
    return importlib.util.find_spec("av") is not None


def file_url(path: str | os.PathLike[str]) -> str:
    """Return a path as FFmpeg takes it for nothing but a file: a name with a colon could be a protocol's."""
    return f"file:{os.fspath(path)}"


def open_video_file(path: str | os.PathLike[str]) -> "InputContainer":
    """Open a video file with PyAV, to read it and no other file.

    Raises:
        av.FFmpegError: it cannot be read, or is no container that :data:`VIDEO_SUFFIXES` stands for.
    """
    import av

    return av.open(file_url(path), options={"protocol_whitelist": "file", "format_whitelist": _FORMATS})


def read_comment(path: Path) -> str:
    """Return the comment in a video file's metadata; empty where it has none or cannot be read."""
    if not can_read_videos():
        return ""
    try:
        with open_video_file(path) as container:
            return str(container.metadata.get("comment", ""))
    except Exception as error:  # whatever a damaged file makes FFmpeg say
        pass_on_memory(error)
        return ""


def is_cut_short(path: Path) -> bool:
    """Tell whether a file ends before the sizes in it do: MP4 and MOV, Matroska and WebM, AVI; False for any other.

    FFmpeg reads the beginning of such a file without an error.

    Raises:
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[4:8] == b"ftyp":
            return _ends_within_box(file, size)
        if head[:4] == _EBML:
            return _ends_within_segment(file, size)
        return head[:4] == b"RIFF" and 8 + int.from_bytes(head[4:8], "little") > size


def _ends_within_box(file: IO[bytes], size: int) -> bool:
    """Tell whether a box of an MP4 or MOV file (ISO/IEC 14496-12, 4.2) begins before and ends behind ``size``."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4]), head[4:8]
        if length == 1:  # it stands behind
            length = int.from_bytes(head[8:16])
        if length < 8:  # 0: up to the end; else no box: what some cameras append
            return False
        at += length
        if at > size:
            return kind in (b"ftyp", b"moov", b"moof", b"mdat", b"free")
    return False


def _ends_within_segment(file: IO[bytes], size: int) -> bool:
    """Tell whether Matroska's segment (RFC 9559, 5.1) begins before and ends behind ``size``."""
    at = 0
    for expected in (_EBML, _SEGMENT):
        file.seek(at)
        head = file.read(12)
        if head[:4] != expected:
            return False
        width = 9 - head[4].bit_length() if len(head) > 4 and head[4] else 0  # bytes that the length takes
        length = int.from_bytes(head[4 : 4 + width]) & ((1 << 7 * width) - 1)
        if not width or length == (1 << 7 * width) - 1:  # unknown: of a broadcast
            return False
        at += 4 + width + length
    return at > size
