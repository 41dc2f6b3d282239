"""The classes of a video, read again from the file that they were written into."""

from collections.abc import Iterator
from pathlib import Path

from ...errors import UserError
from ...storage.video_files import open_video_file
from .reader import error_text


def read_classes(path: Path) -> Iterator[tuple[float, bytes]]:
    """Yield the time in seconds and the palette PNG of each frame of a ``NAME_classes.mov``.

    Raises:
        UserError: it cannot be read.
    """
    import av

    try:
        with open_video_file(path) as container:
            for packet in container.demux(video=0):
                if packet.pts is not None:  # the last one has none, and no bytes
                    yield float(packet.pts * packet.time_base), bytes(packet)
    except av.FFmpegError as error:
        raise UserError(f"{path}: cannot be read ({error_text(error)})") from None
