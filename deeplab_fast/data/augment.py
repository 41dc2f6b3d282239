"""The recipe's augmentation: random scale, pad, crop and flip, decided on the host from a counter."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeplab_fast.ops import crop_resample

from .philox import AUGMENT, uniform

Image = NDArray[np.uint8]


class Draws(NamedTuple):
    """The random part of one sample's augmentation, each in [0, 1)."""

    scale: float
    top: float
    left: float
    flip: float


class Crop(NamedTuple):
    """An augmented sample.

    ``image`` uint8 ``[S, S, 3]`` RGB, ``label`` uint8 ``[S, S]``, ``extent`` int32 ``[4]``: top,
    bottom, left, right of the pixels that are image; the rest is padding (0 and the ignore label).
    """

    image: Image
    label: Image
    extent: NDArray[np.int32]


def draws(seed: int, epoch: int, sample: int) -> Draws:
    """What ``(seed, epoch, sample)`` decides; independent of every other sample."""
    return Draws(*uniform(seed, epoch, sample, AUGMENT).tolist())


@dataclass(frozen=True)
class Augment:
    """Scale by U(min_scale, max_scale), pad bottom and right, crop at random, flip with p = 0.5."""

    crop_size: int
    min_scale: float
    max_scale: float
    ignore_label: int
    bicubic: bool = True

    def __call__(self, image: Image, label: Image, draw: Draws) -> Crop:
        """Augment one decoded sample: image uint8 ``[H, W, 3]``, label uint8 ``[H, W]``."""
        size = self.crop_size
        scale = self.min_scale + (self.max_scale - self.min_scale) * draw.scale
        height, width = (max(1, int(scale * side)) for side in image.shape[:2])
        top = int(draw.top * (max(height, size) - size + 1))
        left = int(draw.left * (max(width, size) - size + 1))
        bottom, right = min(top + size, height), min(left + size, width)
        pixels, classes = crop_resample(image, label, (height, width), (top, bottom, left, right), self.bicubic)
        h, w = bottom - top, right - left
        x = 0
        if draw.flip >= 0.5:
            pixels, classes, x = pixels[:, ::-1], classes[:, ::-1], size - w
        out = np.zeros((size, size, 3), np.uint8)
        out_label = np.full((size, size), self.ignore_label, np.uint8)
        out[:h, x : x + w] = pixels
        out_label[:h, x : x + w] = classes
        return Crop(out, out_label, np.array([0, h, x, x + w], np.int32))
