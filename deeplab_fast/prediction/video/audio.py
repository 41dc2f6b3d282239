"""Sound of a video, copied into another as it is stored."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from ...storage.video_files import file_url
from .reader import UnusableVideo, refused_by_ffmpeg, said

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream

logger = logging.getLogger("deeplab_fast")


class AudioCopy:
    """The audio streams of a file, whose packets go into ``target`` as far as the pictures have come.

    The file is opened a second time: packets of sound come in step with frames that wait for the network, without one
    reader that feeds both. ``begin``: seconds that are taken from all time stamps.
    """

    def __init__(self, source: "InputContainer", target: "OutputContainer", path: Path, begin: Fraction) -> None:
        self._target, self._path, self._begin = target, path, begin
        self._streams: dict[int, Stream] = {}
        for stream in source.streams.audio:
            try:
                made = target.add_stream_from_template(stream)
            except ValueError:
                name = stream.codec_context.name if stream.codec_context else "of an unknown codec"
                logger.warning("%s: its sound (%s) does not go into MP4 and is left out", path, name)
                continue
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
                    yield packet
        except av.FFmpegError as error:
            raise UnusableVideo(f"{self._path}: its sound cannot be read ({said(error)})") from None

    def copy_until(self, seconds: float) -> None:
        """Copy what is to be heard before a time; infinity: all the rest.

        Raises:
            UnusableVideo: the source is damaged.
            OSError: the target cannot be written.
        """
        while True:
            packet = self._waiting or next(self._packets, None)
            self._waiting = packet
            if packet is None:
                return
            assert packet.dts is not None
            if packet.dts * packet.time_base - self._begin > seconds:
                return
            offset = round(self._begin / packet.time_base)
            packet.dts, packet.pts = packet.dts - offset, None if packet.pts is None else packet.pts - offset
            packet.stream = self._streams[packet.stream.index]
            with refused_by_ffmpeg(self._path, "its sound cannot be copied"):
                self._target.mux(packet)
            self._waiting = None


@contextmanager
def open_audio(path: Path, target: "OutputContainer", begin: Fraction) -> Iterator[AudioCopy]:
    """Open the sound of ``path`` to copy it into ``target``, which holds its other streams already.

    Raises:
        UnusableVideo: the file cannot be read any more.
    """
    import av

    try:
        source = av.open(file_url(path), options={"protocol_whitelist": "file"})
    except av.FFmpegError as error:
        raise UnusableVideo(f"{path}: its sound cannot be read ({said(error)})") from None
    with source:
        yield AudioCopy(source, target, path, begin)
