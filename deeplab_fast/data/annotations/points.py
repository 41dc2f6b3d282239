"""Points of outlines: checked, and cut to the image."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplab_fast.errors import UserError

Points = NDArray[np.float64]

FARTHEST = 1e9  # pixels from the image's corner: more is no coordinate
_MARGIN = 4096.0  # pixels around the image that cutting leaves: within them tools round an outline as it is


def read_points(values: Any, where: str, fewest: int = 3) -> Points:
    """Return points ``[N, 2]``, x and y, from pairs of numbers or from x, y, x, y, ...

    Raises:
        UserError: not such a list, fewer than ``fewest`` points, or a coordinate that is not finite.
    """
    try:
        points = np.array(values, np.float64)
    except (ValueError, TypeError, OverflowError):
        raise UserError(f"{where}: coordinates that are no numbers; expected x, y of each point") from None
    if points.ndim == 1 and len(points) % 2 == 0:
        points = points.reshape(-1, 2)
    if points.ndim != 2 or points.shape[1] != 2:
        raise UserError(f"{where}: coordinates that are no pairs; expected x, y of each point")
    if len(points) < fewest:
        plural = "" if len(points) == 1 else "s"
        raise UserError(f"{where}: {len(points)} point{plural}; expected at least {fewest}")
    wrong = ~(np.abs(points) <= FARTHEST)
    if wrong.any():
        raise UserError(f"{where}: coordinate {points[wrong][0]:g}; expected finite pixels")
    return points


def cut_to_image(points: Points, height: int, width: int) -> Points:
    """Keep of an outline ``[N, 2]`` what is in the image or not far from it (Sutherland and Hodgman): ``[M, 2]``.

    Inside the image it stays as it was. Tools draw along the whole of an edge, however far it goes.
    """
    low, high = np.array([-_MARGIN, -_MARGIN]), np.array([width + _MARGIN, height + _MARGIN])
    for axis in (0, 1):
        for limit, sign in ((low[axis], 1.0), (high[axis], -1.0)):
            points = _cut(points, axis, limit, sign)
    return points


def _cut(points: Points, axis: int, limit: float, sign: float) -> Points:
    """Keep what lies beyond ``limit`` in the direction of ``sign``."""
    inside = sign * (points[:, axis] - limit) >= 0
    if inside.all():
        return points
    kept = []
    for i, point in enumerate(points):
        before = points[i - 1]
        if inside[i] != inside[i - 1]:
            share = (limit - before[axis]) / (point[axis] - before[axis])
            crossing = before + share * (point - before)
            crossing[axis] = limit
            kept.append(crossing)
        if inside[i]:
            kept.append(point)
    return np.array(kept).reshape(-1, 2)
