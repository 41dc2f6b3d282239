"""Outlines to pixels as COCO's own tools have them, and CVAT's export: by pycocotools."""

import importlib.util
import math

import numpy as np

from deeplab_fast.errors import UserError

from .label_set import Label
from .points import Points, cut_to_image

_LONGEST = 1 << 22  # pixels along an outline; pycocotools takes some 40 bytes for each


def require_pycocotools(where: str) -> None:
    """Raise :class:`UserError`, with how to install it, where pycocotools is not there."""
    if importlib.util.find_spec("pycocotools") is None:
        raise UserError(f"{where}: its outlines need pycocotools; install it: pip install 'deeplab_fast[labels]'")


def fill_polygon(label: Label, points: Points, value: int, where: str) -> None:
    """Put ``value`` into ``label`` ``[H, W]`` within the outline ``points`` ``[N, 2]``.

    Only the outline's own window is drawn: a set has many small ones in large images.

    Raises:
        UserError: the outline goes to and fro for millions of pixels; begins with ``where``.
    """
    from pycocotools import mask

    points = cut_to_image(points, *label.shape)
    if not len(points):
        return
    length = np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum()
    if length > _LONGEST:
        raise UserError(f"{where}: an outline of {length:,.0f} pixels; expected at most {_LONGEST:,}")
    left, top = (max(math.floor(low), 0) for low in points.min(axis=0))
    right, bottom = (math.ceil(high) + 1 for high in points.max(axis=0))
    window = label[top:bottom, left:right]
    if window.size:
        encoded = mask.frPyObjects([(points - (left, top)).ravel().tolist()], *window.shape)
        window[mask.decode(encoded)[:, :, 0] == 1] = value
