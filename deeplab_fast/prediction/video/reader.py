"""The frames of a video as a viewer shows them, one after the other."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import UserError
from ...ops import Decoding
from ...storage.files import reason
from ...storage.video_files import INSTALL, can_read_videos, is_cut_short, open_video_file
from .timeline import Timeline

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter
    from av.video.stream import VideoStream

_DEFAULT_RATE = Fraction(25)
_UNSPECIFIED = 2  # of AVColorSpace
_HD_HEIGHT = 720  # from here on BT.709 is meant where a file does not say which matrix
_AS_STORED = (1, 0, 0, 1)
# Matrices of AVColorSpace as those of swscale: BT.709, FCC, BT.601 twice, SMPTE 240M, BT.2020.
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}


class UnusableVideo(UserError):
    """A video that cannot be segmented, and why; other files can."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame as it is shown: RGB, uint8 ``[H, W, 3]``, its ``number`` from 0, and its ``time`` in seconds.

    ``pts`` and ``duration`` (0: not known) are in units of the video's ``time_base``. ``pixel_aspect``: width of a
    pixel by its height; None where the file does not say.
    """

    number: int
    time: float
    image: NDArray[np.uint8]
    pts: int
    duration: int
    pixel_aspect: Fraction | None


@dataclass(frozen=True, eq=False)
class VideoReader:
    """A video that is open: its first stream of moving pictures."""

    path: Path
    decoding: Decoding
    container: "InputContainer"
    stream: "VideoStream"

    @property
    def time_base(self) -> Fraction:
        """Seconds in a unit of the time stamps."""
        return self.stream.time_base or 1 / self.rate

    @property
    def rate(self) -> Fraction:
        """Frames a second, on average."""
        return self.stream.average_rate or self.stream.guessed_rate or _DEFAULT_RATE

    @property
    def frames_expected(self) -> int | None:
        """Number of frames that the file states, or that follows from its duration; None where it states neither."""
        if self.stream.frames:
            return self.stream.frames
        return round(self.container.duration / 1_000_000 * self.rate) if self.container.duration else None

    @property
    def begin(self) -> Fraction:
        """Seconds to subtract from all time stamps, so that a recording of a broadcast begins at 0, too."""
        return Fraction(max(0, self.container.start_time or 0), 1_000_000)

    @property
    def matrix(self) -> int:
        """Matrix between RGB and YUV, a number of swscale: the file's, else BT.709 for HD and BT.601 below."""
        context = self.stream.codec_context
        return _MATRICES.get(context.colorspace, 1 if context.height >= _HD_HEIGHT else 5)

    def frames(self) -> Iterator[Frame]:
        """Yield each frame; holds no more of them than the decoder does.

        Time stamps increase, as :class:`.timeline.Timeline` has them.

        Raises:
            UnusableVideo: it is damaged, or its pictures have more pixels than they may, or become larger or smaller.
        """
        from av.video.reformatter import VideoReformatter

        scaler, offset = VideoReformatter(), round(self.begin / self.time_base)
        timeline, usual = Timeline(self.time_base), round(1 / self.rate / self.time_base)
        first: tuple[int, ...] | None = None
        for number, decoded in enumerate(self._decoded()):
            pts = round(number / self.rate / self.time_base) if decoded.pts is None else decoded.pts - offset
            frame = self._frame(number, timeline.place(pts, usual), decoded, scaler)
            first = first or frame.image.shape
            self._check_like_first(frame, first)
            yield frame

    def _decoded(self) -> Iterator["VideoFrame"]:
        """Yield each frame as it is stored; raise :class:`UnusableVideo` where one is damaged or the end is missing."""
        import av

        number, packets = 0, 0
        try:
            for packet in self.container.demux(self.stream):
                is_flush = packet.dts is None and not packet.size  # the last one, which empties the decoder
                packets += not is_flush
                if not packet.size and not is_flush:  # a frame that was dropped: the one before is shown on
                    continue
                for decoded in packet.decode():
                    if decoded.is_corrupt:
                        raise UnusableVideo(f"{self.path}: frame {number} is damaged")
                    yield decoded
                    number += 1
        except av.FFmpegError as error:
            raise UnusableVideo(f"{self.path}: frame {number} cannot be decoded ({error_text(error)})") from None
        self._check_end(number, packets)

    def _frame(self, number: int, pts: int, decoded: "VideoFrame", scaler: "VideoReformatter") -> Frame:
        _check_size(decoded.width, decoded.height, self.path, self.decoding)
        source = self.matrix if decoded.colorspace == _UNSPECIFIED else None
        with refused_by_ffmpeg(self.path, f"frame {number} cannot be made RGB"):
            image: Any = scaler.reformat(decoded, format="rgb24", src_colorspace=source).to_ndarray()
        matrix = display_matrix(decoded) if self.decoding.apply_exif else _AS_STORED
        aspect = self.stream.sample_aspect_ratio or None
        if aspect and _swaps_sides(matrix):
            aspect = 1 / aspect
        duration = decoded.duration or 0
        return Frame(number, float(pts * self.time_base), turned(image, matrix), pts, duration, aspect)

    def _check_like_first(self, frame: Frame, first: tuple[int, ...]) -> None:
        if frame.image.shape != first:
            sizes = [f"{width}x{height}" for height, width, *_ in (frame.image.shape, first)]
            raise UnusableVideo(
                f"{self.path}: frame {frame.number} has {sizes[0]} pixels; expected {sizes[1]}, as the first"
            )

    def _check_end(self, number: int, packets: int) -> None:
        if not number:
            raise UnusableVideo(f"{self.path}: holds no frame")
        expected = len(self.stream.index_entries) if self.container.format.name.startswith("mov") else 0
        if packets < expected:
            raise UnusableVideo(f"{self.path}: damaged: {packets} of {expected} frames can be read")


@contextmanager
def open_video(path: Path, decoding: Decoding) -> Iterator[VideoReader]:
    """Open a video to read its frames.

    ``decoding``: the most pixels that a picture may have, and whether it is turned as the file says.

    Raises:
        UserError: the package av is not installed.
        UnusableVideo: it cannot be read, is cut short, or has no pictures.
    """
    if not can_read_videos():
        raise UserError(f"{path}: {INSTALL}")
    import av

    try:
        if is_cut_short(path):
            raise UnusableVideo(f"{path}: is cut short; expected a whole video")
        container = open_video_file(path)
    except av.ArgumentError:  # of a format that is not on the list
        raise UnusableVideo(f"{path}: cannot be read as a video (its content is of another format)") from None
    except (OSError, av.FFmpegError, UnicodeError) as error:
        raise UnusableVideo(f"{path}: cannot be read as a video ({error_text(error)})") from None
    with container:
        cover = av.stream.Disposition.attached_pic
        streams = [stream for stream in container.streams.video if not stream.disposition & cover]
        if not streams:
            raise UnusableVideo(f"{path}: has no video stream")
        stream = streams[0]
        if stream.codec_context is None:
            raise UnusableVideo(f"{path}: its codec is not known to FFmpeg")
        _check_size(stream.codec_context.width, stream.codec_context.height, path, decoding)
        stream.thread_type = "AUTO"
        yield VideoReader(path, decoding, container, stream)


@contextmanager
def refused_by_ffmpeg(path: Path, words: str) -> Iterator[None]:
    """Raise what FFmpeg refuses in the block as a fault of the video ``path``; the system's errors stay as they are.

    Raises:
        UnusableVideo: says ``words`` and what FFmpeg says.
    """
    import av

    try:
        yield
    except av.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise UnusableVideo(f"{path}: {words} ({error_text(error)})") from None


def error_text(error: Exception) -> str:
    """Return the text of an error of FFmpeg or of the system, on one line."""
    if isinstance(error, OSError):
        return reason(error)
    return str(getattr(error, "strerror", "") or " ".join(str(error).split()))


def _check_size(width: int, height: int, path: Path, decoding: Decoding) -> None:
    if width * height > decoding.max_pixels:
        size = f"{width}x{height} pixels"
        raise UnusableVideo(f"{path}: {size}; expected at most {decoding.max_pixels} (--max_pixels)")


def display_matrix(frame: "VideoFrame") -> tuple[int, int, int, int]:
    """Return ``a, b, c, d`` of the matrix that places a frame's pixels: x' = a x + c y, y' = b x + d y."""
    of_frame: Any = frame.side_data  # its stubs say that it yields names
    for data in of_frame:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
            return a, b, c, d
    return _AS_STORED


def _swaps_sides(matrix: tuple[int, int, int, int]) -> bool:
    """Tell whether a matrix of :func:`display_matrix` makes columns of rows."""
    a, b, *_ = matrix
    return abs(b) > abs(a)


def turned(image: NDArray[np.uint8], matrix: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Return an image ``[H, W, 3]`` turned and mirrored by a matrix of :func:`display_matrix`, by right angles."""
    a, b, c, d = matrix
    swaps = _swaps_sides(matrix)
    if swaps:
        image = image.transpose(1, 0, 2)
    if (b if swaps else d) < 0:
        image = image[::-1]
    if (c if swaps else a) < 0:
        image = image[:, ::-1]
    return np.ascontiguousarray(image)
