"""Frames of a video through the network, and their results into new videos."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

from tqdm import tqdm

from ...storage.files import reason
from ...storage.mask_folder import MaskFolder
from ...storage.result_files import file_digest
from ..batches import Loaded, Segmented, score_batch
from ..inputs import Item
from ..network import Network
from ..products import Products
from .reader import Frame, UnusableVideo, open_video
from .writer import open_classes, open_overlay


def segment_frames(
    network: Network, path: Path, frames: Iterable[Frame], batch_size: int
) -> Iterator[tuple[Frame, Segmented]]:
    """Yield each frame of a video with its classes and scores; no more than a batch of them is held.

    Raises:
        UnusableVideo: memory is not enough for one frame alone; or as ``frames`` raises it.
    """
    item, pending = Item(path, Path(path.stem)), iter(frames)
    while batch := list(islice(pending, batch_size)):
        loaded = [Loaded(item, "", frame.image) for frame in batch]
        for frame, found in zip(batch, score_batch(network, loaded), strict=True):
            if isinstance(found, tuple):
                raise UnusableVideo(str(found[1]))
            yield frame, found


def segment_video(
    network: Network, made: Products, folder: MaskFolder, path: Path, stem: Path, batch_size: int
) -> None:
    """Segment a video into its files in ``folder``, whose names begin with ``stem``: all of them, or none.

    Raises:
        UnusableVideo: it cannot be read to its end, or memory is not enough for a frame.
        UserError: a result cannot be written.
    """
    try:
        digest = file_digest(path)
    except OSError as error:
        raise UnusableVideo(f"{path}: {reason(error)}") from None
    comment = folder.comment(digest)
    with open_video(path, network.protocol.decoding) as video, folder.open_video(stem) as targets:
        with ExitStack() as files:
            classes = files.enter_context(open_classes(targets[0], video, comment))
            overlays = [files.enter_context(open_overlay(target, video, comment)) for target in targets[1:]]
            segmented = segment_frames(network, path, video.frames(), batch_size)
            bar = {"desc": path.name, "total": video.frames_expected, "unit": "frame", "leave": False}
            for frame, found in tqdm(segmented, **bar, disable=None):
                classes.write(frame, made.mask(found))
                for overlay in overlays:
                    overlay.write(frame, made.frame_overlay(found))
