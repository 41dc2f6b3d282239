"""The recipe's augmentation: random scale, pad, crop and flip, decided on the host from a counter."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeplab_fast.ops import apply_colour, crop_resample

from .philox import AUGMENT, COLOUR, COLOUR_CHOICE, uniform

Image = NDArray[np.uint8]

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_COLOUR_ONE = 4096


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
    """Draw what ``(seed, epoch, sample)`` decides, independent of every other sample."""
    return Draws(*uniform(seed, epoch, sample, AUGMENT).tolist())


def colour_matrix(seed: int, epoch: int, sample: int) -> NDArray[np.int32]:
    """Draw a change of brightness, contrast, saturation and hue, each with probability 1/2: int32 ``[3, 4]``.

    The ranges are those of SSD's photometric distortion (Liu et al., arXiv 1512.02325, section 2.2, as
    implemented with it): brightness +-32, contrast and saturation 0.5 to 1.5, hue +-36 degrees. All four
    are affine in RGB, so one matrix (units of 1/4096, last column added) does them together.
    """
    strength = 2 * uniform(seed, epoch, sample, COLOUR) - 1
    chosen = uniform(seed, epoch, sample, COLOUR_CHOICE) < 0.5
    brightness, contrast, saturation, hue = np.where(chosen, strength, 0.0)
    grey = np.tile(_LUMA, (3, 1))
    saturate = (1 + 0.5 * saturation) * np.eye(3) - 0.5 * saturation * grey
    # A rotation about the grey axis in YIQ (FCC NTSC), which keeps luma.
    to_yiq = np.array([_LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    cos, sin = math.cos(hue * math.pi / 5), math.sin(hue * math.pi / 5)
    rotate = np.linalg.inv(to_yiq) @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ to_yiq
    scale = 1 + 0.5 * contrast
    matrix = scale * (rotate @ saturate)
    shift = np.full((3, 1), scale * 32 * brightness)
    return np.rint(_COLOUR_ONE * np.hstack([matrix, shift])).astype(np.int32)


@dataclass(frozen=True)
class Augment:
    """Scale by U(min_scale, max_scale), pad bottom and right, crop at random, flip with p = 0.5.

    Calling it is the reference; the native loader does the same, bit for bit.
    """

    crop_size: int
    min_scale: float
    max_scale: float
    ignore_label: int
    bicubic: bool = True
    photometric: bool = False

    def __call__(self, image: Image, label: Image, draw: Draws, colour: NDArray[np.int32] | None = None) -> Crop:
        """Augment one decoded sample: image uint8 ``[H, W, 3]``, label uint8 ``[H, W]``."""
        size = self.crop_size
        scale = self.min_scale + (self.max_scale - self.min_scale) * draw.scale
        height, width = (max(1, int(scale * side)) for side in image.shape[:2])
        top = int(draw.top * (max(height, size) - size + 1))
        left = int(draw.left * (max(width, size) - size + 1))
        bottom, right = min(top + size, height), min(left + size, width)
        pixels, classes = crop_resample(image, label, (height, width), (top, bottom, left, right), self.bicubic)
        if colour is not None:
            pixels = apply_colour(pixels, colour)
        h, w = bottom - top, right - left
        x = 0
        if draw.flip >= 0.5:
            pixels, classes, x = pixels[:, ::-1], classes[:, ::-1], size - w
        out = np.zeros((size, size, 3), np.uint8)
        out_label = np.full((size, size), self.ignore_label, np.uint8)
        out[:h, x : x + w] = pixels
        out_label[:h, x : x + w] = classes
        return Crop(out, out_label, np.array([0, h, x, x + w], np.int32))
