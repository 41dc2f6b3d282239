"""Images and videos into the folder of their results, and how far that has come."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ..errors import UserError, is_out_of_memory
from ..storage.mask_folder import MaskFolder
from .batches import segment_files
from .inputs import Item
from .network import Network
from .products import Products
from .video.frames import segment_video
from .video.reader import UnusableVideo


def count(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 image``, ``2 images``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


@dataclass
class Tally:
    """The progress of a prediction.

    ``noun``: what is segmented, ``image``, ``video``, or ``file`` where there are both. ``items``: those that are done;
    ``before`` of them were done by earlier runs. ``bad``: a line for each that could not be segmented.
    """

    total: int
    noun: str
    before: int
    items: set[Item]
    bad: list[str]

    @classmethod
    def of(cls, items: Sequence[Item], done: set[Item]) -> "Tally":
        """Begin with what is ``done`` of ``items``."""
        videos = sum(item.is_video for item in items)
        noun = "file" if 0 < videos < len(items) else "video" if videos else "image"
        return cls(len(items), noun, len(done), set(done), [])

    @property
    def done(self) -> int:
        """Number of files that are done."""
        return len(self.items)

    def __str__(self) -> str:
        return f"{self.done} of {count(self.total, self.noun)} done"

    def name_bad(self) -> None:
        """Name what could not be segmented."""
        if self.bad:
            words = f"{len(self.bad)} of {count(self.total, self.noun)}"
            print("\n  ".join([f"error: {words} could not be segmented:", *self.bad]), file=sys.stderr)


def segment_into(
    folder: MaskFolder, network: Network, made: Products, pending: Sequence[Item], tally: Tally, at_once: int
) -> None:
    """Segment images, then videos, into ``folder``, ``at_once`` images or frames a batch.

    Those that cannot be used are noted in ``tally``.

    Raises:
        UserError: a result cannot be written.
    """
    images = [item for item in pending if not item.is_video]
    with tqdm(desc="predict", total=tally.total, initial=tally.done, unit=tally.noun, disable=None) as progress:
        for item, result in segment_files(network, images, at_once, made.of):
            if isinstance(result, UserError):
                tally.bad.append(str(result))
            else:
                folder.write(item.stem, result.digest, result.mask, result.beside)
                tally.items.add(item)
            progress.update()
        for item in pending:
            if not (item.is_video and isinstance(item.path, Path)):
                continue
            try:
                segment_video(network, made, folder, item.path, item.stem, at_once)
                tally.items.add(item)
            except UnusableVideo as error:
                tally.bad.append(str(error))
            except Exception as error:  # elsewhere than in the network: a frame that is decoded, drawn or encoded
                if not is_out_of_memory(error):
                    raise
                tally.bad.append(f"{item.path}: not enough memory for it")
            progress.update()
