"""Large images in windows: each is an image of its own to the protocol, and they are blended where they overlap.

A window has ``window`` pixels a side, or the image's where that is shorter. Along each side windows are spread evenly
from edge to edge, as few as have the asked share in common. A window's probabilities, at its own size, weigh
``sin(pi * (i + 0.5) / n) ** 2`` at pixel ``i`` of ``n`` along each side, the product of both: smooth, largest in the
middle and near 0 at the edges. The sum is divided by the sum of the weights.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..ops import LogitsView, summed_probabilities
from .protocol import Protocol, aligns_corners, scores, views_of


class Row(NamedTuple):
    """Windows beside each other: their ``height``, the image's row of their first, ``top``, and where each begins.

    ``views`` holds the scores of all of them, a batch at every scale.
    """

    top: int
    height: int
    width: int
    lefts: list[int]
    views: list[LogitsView]


def starts(length: int, window: int, overlap: float) -> list[int]:
    """Return where the windows along a side of ``length`` pixels begin."""
    if length <= window:
        return [0]
    step = max(1, math.floor(window * (1 - overlap)))
    steps = -(-(length - window) // step)
    return [round(i * (length - window) / steps) for i in range(steps + 1)]


def weights(length: int) -> Tensor:
    """Return the weights along a side of a window: fp32 ``[length]``."""
    i = torch.arange(length, dtype=torch.float64)
    return ((math.pi * (i + 0.5) / length).sin() ** 2).float()


def rows_of(
    model: torch.nn.Module,
    image: np.ndarray,
    protocol: Protocol,
    device: torch.device,
    images_at_once: int = 1,
) -> Iterator[Row]:
    """Yield the scores of each row of windows of an image, uint8 ``[H, W, 3]``.

    ``images_at_once``: most windows that go through the network together.
    """
    height, width = (min(protocol.window, side) for side in image.shape[:2])
    lefts = starts(image.shape[1], protocol.window, protocol.overlap)
    for top in starts(image.shape[0], protocol.window, protocol.overlap):
        band = image[top : top + height]
        parts = []
        for i in range(0, len(lefts), images_at_once):
            windows = [np.ascontiguousarray(band[:, left : left + width]) for left in lefts[i : i + images_at_once]]
            parts.append(scores(model, views_of(windows, protocol), protocol, device))
        yield Row(top, height, width, lefts, [_joined(same) for same in zip(*parts, strict=True)])


def _joined(views: Sequence[LogitsView]) -> LogitsView:
    logits = torch.cat([view.logits for view in views])
    return LogitsView(logits, views[0].size, torch.cat([view.extents for view in views]))


@torch.inference_mode()
def window_classes(
    model: torch.nn.Module, image: np.ndarray, protocol: Protocol, device: torch.device, images_at_once: int = 1
) -> Tensor:
    """Return the class of each pixel of an image, uint8 ``[H, W, 3]``, in windows: uint8 ``[H, W]``, on ``device``."""
    rows = rows_of(model, image, protocol, device, images_at_once)
    bands = blended(rows, (image.shape[0], image.shape[1]), aligns_corners(model))
    return torch.cat([band.argmax(0).to(torch.uint8) for band in bands])


@torch.inference_mode()
def blended(rows: Iterable[Row], size: tuple[int, int], align_corners: bool) -> Iterator[Tensor]:
    """Yield the probabilities of an image of this (height, width), blended, in bands from the top: ``[C, rows, W]``.

    They are fp32 and of all views together: each pixel's sum is their number. No more than a row of windows is held; a
    band is part of that memory, and gone when the next one is asked for.
    """
    total: Tensor | None = None  # the weighted sum of the rows from `first` on, then that of the weights
    first = 0
    for row in rows:
        if total is None:
            logits = row.views[0].logits
            total = logits.new_zeros((logits.shape[1] + 1, row.height, size[1]), dtype=torch.float32)
        elif done := row.top - first:
            yield total[:-1, :done].div_(total[-1, :done])
            _move_up(total, done)
            first = row.top
        _add(total, row, align_corners)
    assert total is not None
    yield total[:-1].div_(total[-1])


def _move_up(total: Tensor, rows: int) -> None:
    """Move ``total`` ``[C, H, W]`` up by so many rows, zeros below; a channel at a time, for the memory's sake."""
    kept = total.shape[1] - rows
    for channel in total:
        channel[:kept] = channel[rows:].clone()
        channel[kept:] = 0


def _add(total: Tensor, row: Row, align_corners: bool) -> None:
    weight = (weights(row.height)[:, None] * weights(row.width)).to(total.device)
    targets = [(row.height, row.width)] * len(row.lefts)
    for left, p in zip(row.lefts, summed_probabilities(row.views, targets, align_corners), strict=True):
        total[:-1, :, left : left + row.width] += weight * p
        total[-1, :, left : left + row.width] += weight
