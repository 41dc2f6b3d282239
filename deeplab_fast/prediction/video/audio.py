"""Sound of a video, copied into another as it is stored."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from ...storage.video_files import open_video_file
from .reader import UnusableVideo, error_text, refused_by_ffmpeg
from .timeline import Timeline

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream

logger = logging.getLogger("deeplab_fast")

_DURATION = Fraction(1, 50)  # seconds of a packet that does not say it


class AudioCopy:
    """The audio streams of a file, whose packets go into ``target`` as far as the pictures have come.

    The file is opened a second time, so that its sound can be read as far as the network has come and nothing has to
    wait in memory. ``begin``: seconds to subtract from all time stamps.
    """

    def __init__(self, source: "InputContainer", target: "OutputContainer", path: Path, begin: Fraction) -> None:
        self._target, self._path, self._begin = target, path, begin
        self._streams: dict[int, Stream] = {}
        self._timelines: dict[int, Timeline] = {}
        for stream in source.streams.audio:
            if not _goes_into_mp4(stream):
                name = stream.codec_context.name if stream.codec_context else "of an unknown codec"
                logger.warning("%s: its sound (%s) does not go into MP4 and is left out", path, name)
                continue
            made = target.add_stream_from_template(stream)
            made.metadata.update({k: v for k, v in stream.metadata.items() if k == "language"})
            self._streams[stream.index] = made
        self._packets = self._read(source)
        self._waiting: Packet | None = None

    def _read(self, source: "InputContainer") -> Iterator["Packet"]:
        import av

        if not self._streams:
            return
        try:
            for packet in source.demux([source.streams[index] for index in self._streams]):
                if packet.dts is not None:
                    self._place(packet, packet.dts)
                    yield packet
        except av.FFmpegError as error:
            raise UnusableVideo(f"{self._path}: its sound cannot be read ({error_text(error)})") from None

    def copy_until(self, seconds: float) -> None:
        """Copy the sound before a time in seconds; infinity copies all the rest.

        Raises:
            UnusableVideo: the source is damaged.
            OSError: the target cannot be written.
        """
        while True:
            if self._waiting is None:
                self._waiting = next(self._packets, None)
            if self._waiting is None or (self._waiting.pts or 0) * self._waiting.time_base > seconds:
                return
            with refused_by_ffmpeg(self._path, "its sound cannot be copied"):
                self._target.mux(self._waiting)
            self._waiting = None

    def _place(self, packet: "Packet", stamp: int) -> None:
        """Give a packet its stream in the target, and time stamps that increase, as those of the pictures do."""
        index, unit = packet.stream.index, packet.time_base
        duration = packet.duration or round(_DURATION / unit)
        timeline = self._timelines.setdefault(index, Timeline(unit))
        # Of sound the times to decode and to present are the same.
        packet.dts = packet.pts = timeline.place(stamp - round(self._begin / unit), duration, least=duration)
        packet.stream = self._streams[index]


def _goes_into_mp4(stream: "AudioStream") -> bool:
    """Tell whether an MP4 file takes a stream of sound as it is stored, by writing the head of one into memory."""
    import av

    context = stream.codec_context
    if context and context.name.startswith("pcm") and context.layout.name.endswith("channels"):
        return False  # MP4 wants to know which channels these are, and FFmpeg says so only at the file's end
    try:
        with av.open(io.BytesIO(), "w", format="mp4") as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True


@contextmanager
def open_audio(path: Path, target: "OutputContainer", begin: Fraction) -> Iterator[AudioCopy]:
    """Open the sound of ``path`` to copy it into ``target``, which holds its other streams already.

    Raises:
        UnusableVideo: the file cannot be read any more.
    """
    import av

    try:
        source = open_video_file(path)
    except av.FFmpegError as error:
        raise UnusableVideo(f"{path}: its sound cannot be read ({error_text(error)})") from None
    with source:
        yield AudioCopy(source, target, path, begin)
