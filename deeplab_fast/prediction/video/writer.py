"""Videos of results: what a viewer plays, and the classes without loss."""

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...storage.video_files import file_url
from .audio import AudioCopy, open_audio
from .reader import Frame, VideoReader, refused_by_ffmpeg

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Visually lossless. No B-frames: with them x264 wrote other bits for the same pictures in one of twenty runs, even with
# one thread.
_H264 = {"crf": "18", "preset": "fast", "bf": "0"}
_MPEG4 = {"flags": "+qscale", "global_quality": str(3 * 118)}  # a quantiser of 3, in FFmpeg's unit
_MPEG4_FINEST = 65535  # units a second of its time stamps at most
_LIMITED_RANGE = 1  # of AVColorRange
_TAGS = {1: 1, 4: 4, 5: 6, 7: 7, 9: 9}  # AVColorSpace of a matrix of swscale


@contextmanager
def open_output(path: Path, source: Path, comment: str) -> Iterator["OutputContainer"]:
    """Open a video to write, made from the video ``source``; it is whole where the block succeeds.

    Raises:
        UnusableVideo: what is in it does not make a file of this kind.
        OSError: it cannot be written.
    """
    import av

    container = av.open(file_url(path), "w", format="mov" if path.suffix == ".mov" else "mp4")
    try:
        container.metadata["comment"] = comment
        yield container
    except BaseException:
        with suppress(Exception):  # the file is thrown away; what led here is the error to report
            container.close()
        raise
    with refused_by_ffmpeg(source, f"its {path.suffix} file cannot be completed"):
        container.close()


@dataclass
class OverlayVideo:
    """A video with the pictures, time stamps and sound of another, H.264 where FFmpeg was built with x264, else MPEG-4.

    Its streams are made at the first picture, whose size is theirs. Both codecs store colours for two by two pixels: a
    picture of odd height or width gets its last row or column twice.
    """

    container: "OutputContainer"
    video: VideoReader
    closing: ExitStack
    _stream: "VideoStream | None" = field(default=None, init=False)
    _audio: AudioCopy | None = field(default=None, init=False)

    def write(self, frame: Frame, picture: NDArray[np.uint8]) -> None:
        """Write a picture, uint8 ``[H, W, 3]``, in a frame's place.

        Raises:
            UnusableVideo: it is of a size that the codec does not take, or the sound is damaged.
            OSError: the file cannot be written.
        """
        import av

        height, width = picture.shape[:2]
        even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._stream is None:
            self._stream = self._add_stream(even.shape[1], even.shape[0], frame)
            self._audio = self.closing.enter_context(open_audio(self.video.path, self.container, self.video.begin))
        made = av.VideoFrame.from_ndarray(even, "rgb24")
        made = made.reformat(format="yuv420p", dst_colorspace=self.video.matrix, dst_color_range=_LIMITED_RANGE)
        made.pts, made.time_base = frame.pts, self.video.time_base
        self._encode(made)
        assert self._audio is not None
        self._audio.copy_until(frame.time)

    def finish(self) -> None:
        """Write what is still in the encoder, and the rest of the sound.

        Raises:
            UnusableVideo, OSError: as :meth:`write`.
        """
        if self._audio is not None:
            self._encode(None)
            self._audio.copy_until(float("inf"))

    def _encode(self, frame: "VideoFrame | None") -> None:
        assert self._stream is not None
        size = f"{self._stream.width}x{self._stream.height} pixels"
        with refused_by_ffmpeg(self.video.path, f"{size} cannot be encoded by {self._stream.codec_context.name}"):
            self.container.mux(self._stream.encode(frame))

    def _add_stream(self, width: int, height: int, frame: Frame) -> "VideoStream":
        import av

        is_h264 = "libx264" in av.codecs_available
        stream = self.container.add_stream(
            "libx264" if is_h264 else "mpeg4", rate=self.video.rate, options=_H264 if is_h264 else _MPEG4
        )
        given, made = self.video.stream.codec_context, stream.codec_context
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        unit = self.video.time_base
        if not is_h264 and unit.denominator > _MPEG4_FINEST:
            unit = Fraction(1, _MPEG4_FINEST)
        made.time_base = stream.time_base = unit
        made.colorspace, made.color_range = _TAGS[self.video.matrix], _LIMITED_RANGE
        made.color_primaries, made.color_trc = given.color_primaries, given.color_trc
        if frame.pixel_aspect:
            made.sample_aspect_ratio = frame.pixel_aspect
        return stream


@contextmanager
def open_overlay(path: Path, video: VideoReader, comment: str) -> Iterator[OverlayVideo]:
    """Open an MP4 of pictures in place of the frames of ``video``, with its sound.

    It is whole where the block succeeds.

    Raises:
        UnusableVideo, OSError: as :meth:`OverlayVideo.write`.
    """
    with ExitStack() as closing:
        target = OverlayVideo(closing.enter_context(open_output(path, video.path, comment)), video, closing)
        yield target
        target.finish()


@dataclass
class ClassesVideo:
    """A video whose frames are palette PNGs, as the classes of an image are written, with the time stamps of another.

    They are kept as they are: ``ffmpeg -c copy`` takes the PNGs out again.
    """

    container: "OutputContainer"
    video: VideoReader
    _stream: "VideoStream | None" = field(default=None, init=False)

    def write(self, frame: Frame, classes: Image.Image) -> None:
        """Write classes, an image with a palette, in a frame's place.

        Raises:
            UnusableVideo: they do not go into the video.
            OSError: the file cannot be written.
        """
        import av

        if self._stream is None:
            self._stream = self.container.add_stream("png", rate=self.video.rate)
            self._stream.width, self._stream.height = classes.size
            self._stream.pix_fmt = "pal8"
            self._stream.codec_context.time_base = self._stream.time_base = self.video.time_base
        data = io.BytesIO()
        classes.save(data, "PNG")
        packet = av.Packet(data.getvalue())
        packet.stream, packet.time_base, packet.is_keyframe = self._stream, self.video.time_base, True
        packet.pts = packet.dts = frame.pts
        packet.duration = frame.duration
        with refused_by_ffmpeg(self.video.path, f"the classes of frame {frame.number} cannot be written"):
            self.container.mux(packet)


@contextmanager
def open_classes(path: Path, video: VideoReader, comment: str) -> Iterator[ClassesVideo]:
    """Open a MOV of the classes of ``video``; it is whole where the block succeeds.

    Raises:
        UnusableVideo, OSError: as :meth:`ClassesVideo.write`.
    """
    with open_output(path, video.path, comment) as container:
        yield ClassesVideo(container, video)
