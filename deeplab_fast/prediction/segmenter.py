"""A trained model as a function of images."""

import dataclasses
import difflib
import logging
import typing
from collections.abc import Iterable, Iterator
from itertools import islice
from os import PathLike, fsdecode
from pathlib import Path
from typing import Any, overload

import numpy as np

from ..config import SegmenterConfig, validate
from ..errors import UserError
from ..evaluation.palette import palette
from ..runtime import check_precision, resolve_precision, select_device
from ..storage.video_files import INSTALL, can_read_videos
from .images import Given, as_array
from .network import open_network
from .segmentation import FrameSegmentation, Segmentation
from .video.frames import segment_frames
from .video.reader import open_video

logger = logging.getLogger("deeplab_fast")


class Segmenter:
    """A function from images to their classes: ``Segmenter("best.pt")(image)``.

    An image is a path, a Pillow image, uint8 ``[H, W, 3]`` of NumPy, or uint8 ``[3, H, W]`` or ``[H, W, 3]`` of torch.
    """

    def __init__(self, ckpt_path: str | PathLike[str], *, probabilities: bool = False, **flags: Any) -> None:
        """Load a checkpoint.

        Args:
            ckpt_path: a file of weights, or a run's folder: its ``best.pt``.
            probabilities: compute them with the classes and keep them (4 bytes a pixel and class), instead of when
                they are asked for.
            **flags: those of ``python -m deeplab_fast.predict`` that concern the network, its device and the protocol,
                such as ``flip=True``, ``scales_type=1``, ``precision="fp32"``, ``device_target="CPU"``,
                ``batch_size=8``.

        Raises:
            UserError: an unknown flag, a value it does not take, or a file that is no such checkpoint.
        """
        given = _checked(flags | {"ckpt_path": str(ckpt_path)})
        device = select_device(given.get("device_target", "auto"))
        asked = given.get("precision", SegmenterConfig.precision)
        check_precision(asked, device)
        precision = resolve_precision(asked, device)
        self.config, self._network = open_network(SegmenterConfig, given | {"precision": precision.name}, device)
        if asked == "auto":
            logger.info("speed: %s", precision)
        self._keeps = probabilities
        self._colours = palette()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes by number; ``class 0``, ... where the checkpoint has none."""
        return self._network.names

    @overload
    def __call__(self, images: Given) -> Segmentation: ...

    @overload
    def __call__(self, images: list[Given] | tuple[Given, ...]) -> list[Segmentation]: ...

    def __call__(self, images: Given | list[Given] | tuple[Given, ...]) -> Segmentation | list[Segmentation]:
        """Segment an image, or a list of images of any sizes, which gives a list.

        Raises:
            UserError: an image is of another kind or cannot be read; names it.
        """
        if isinstance(images, list | tuple):
            return list(self.each(images))
        return self._segment([as_array(images, "image", self._network.protocol.decoding)])[0]

    def each(self, images: Iterable[Given]) -> Iterator[Segmentation]:
        """Segment images one batch after the other, for more of them than memory holds.

        Raises:
            UserError: as for a list, once its turn comes.
        """
        decoding = self._network.protocol.decoding
        arrays = (as_array(image, f"image {i}", decoding) for i, image in enumerate(images))
        while batch := list(islice(arrays, self.config.batch_size)):
            yield from self._segment(batch)

    def video(self, path: str | PathLike[str]) -> Iterator[FrameSegmentation]:
        """Segment the frames of a video one batch after the other, turned as its viewers turn it.

        No more than a batch of them is held, whatever the video's length.

        Raises:
            UserError: the package av is not installed; once their turn comes: there is no such video, it is damaged or
                cut short, or it has no pictures.
        """
        if not can_read_videos():
            raise UserError(f"{fsdecode(path)}: {INSTALL}")
        return self._frames(Path(path))

    def _frames(self, path: Path) -> Iterator[FrameSegmentation]:
        with open_video(path, self._network.protocol.decoding) as video:
            for frame, found in segment_frames(self._network, path, video.frames(), self.config.batch_size):
                kept = found.scored.probabilities() if self._keeps else None
                of_image = (found.classes, self.names, frame.image, self._colours, found.scored, kept)
                yield FrameSegmentation(*of_image, number=frame.number, time=frame.time)

    def _segment(self, images: list[np.ndarray]) -> list[Segmentation]:
        return [
            Segmentation(
                classes, self.names, image, self._colours, scored, scored.probabilities() if self._keeps else None
            )
            for image, (classes, scored) in zip(images, self._network.score(images), strict=True)
        ]


def _checked(flags: dict[str, Any]) -> dict[str, Any]:
    """Return keywords as flags, lists as tuples, or raise :class:`UserError` as the command line does."""
    known = [field.name for field in dataclasses.fields(SegmenterConfig)]
    hints = typing.get_type_hints(SegmenterConfig)
    given: dict[str, Any] = {}
    for name, value in flags.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise UserError(f"{name}: unknown flag{f'; did you mean {near[0]}?' if near else ''}")
        wants_tuple = typing.get_origin(hints[name]) is tuple
        given[name] = tuple(value) if wants_tuple and isinstance(value, list) else value
    validate(SegmenterConfig(**given))
    return given
