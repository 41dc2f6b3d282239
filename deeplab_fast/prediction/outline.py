"""Regions of pixels as polygons along the pixels' edges, of which exactly these pixels lie inside.

A polygon of COCO has no holes. Here each hole is joined with what surrounds it by a cut without width: a line along a
row of pixels from the hole to the edge on its left, there and back, so that the whole is one polygon.
"""

from bisect import bisect_left, insort
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_Point = tuple[int, int]  # x, y of a corner of pixels


class _Corners(NamedTuple):
    """Corners of a mask's regions: ``x``, ``y``, and the corner at the other end of its horizontal and vertical edge.

    int64 ``[n]``, by rows. Where two regions touch, there are two corners at a place, one of each.
    """

    x: NDArray[np.int64]
    y: NDArray[np.int64]
    across: NDArray[np.int64]
    along: NDArray[np.int64]


def outline(mask: NDArray[np.bool_]) -> list[list[int]]:
    """Return a polygon for each region of a mask ``[H, W]``: ``x0, y0, x1, y1, ...``, the corners of pixels.

    The pixels of a region touch by their sides.
    """
    outer: list[list[_Point]] = []
    holes: list[list[_Point]] = []
    for loop in _loops(_corners(mask)):
        x, y = min(loop, key=lambda p: (p[1], p[0]))
        (outer if mask[y, x] else holes).append(loop)
    joined = _Joined(outer)
    for hole in sorted(holes, key=min):
        joined.add(hole)
    return [[number for point in loop for number in point] for loop in joined.loops()]


def _corners(mask: NDArray[np.bool_]) -> _Corners:
    """Find the corners: where one or three of the four pixels around a place are in, or two across from each other."""
    padded = np.pad(mask, 1)
    above, below = padded[:-1], padded[1:]
    a, b, c, d = above[:, :-1], above[:, 1:], below[:, :-1], below[:, 1:]
    touching = (a == d) & (b == c) & (a != b)
    places = np.argwhere((a ^ b ^ c ^ d) | touching)
    places = np.repeat(places, 1 + touching[tuple(places.T)], axis=0)
    y, x = places.T
    second = np.zeros(len(places), bool)
    second[1:] = (places[1:] == places[:-1]).all(1)
    falls = a[y, x]  # of two that touch, the upper one is on the left
    # In a row the left region's corner comes first, in a column the upper one's.
    lower = np.where(falls, second, ~second)
    down = np.lexsort((lower, y, x))
    across, along = np.empty_like(x), np.empty_like(x)
    order = np.arange(len(x))
    across[order[0::2]], across[order[1::2]] = order[1::2], order[0::2]
    along[down[0::2]], along[down[1::2]] = down[1::2], down[0::2]
    return _Corners(x, y, across, along)


def _loops(corners: _Corners) -> list[list[_Point]]:
    """Follow the edges, across and along in turn, to closed loops of corners."""
    x, y, across, along = (values.tolist() for values in corners)
    seen = [False] * len(x)
    loops = []
    for start in range(len(x)):
        loop, at = [], start
        while not seen[at]:
            other = across[at]
            seen[at] = seen[other] = True
            loop += [(x[at], y[at]), (x[other], y[other])]
            at = along[other]
        if loop:
            loops.append(loop)
    return loops


class _Joined:
    """Loops of points to which holes are joined; ``after`` is the number of each point's next one."""

    def __init__(self, loops: list[list[_Point]]) -> None:
        self.points: list[_Point] = []
        self.after: list[int] = []
        self.starts: list[int] = []
        self.edges: dict[
            int, list[_Point]
        ] = {}  # by row: x and first point's number of each edge that passes it, sorted
        for loop in loops:
            self.starts.append(self._append(loop))

    def _append(self, loop: list[_Point]) -> int:
        first = len(self.points)
        self.points += loop
        self.after += [*range(first + 1, first + len(loop)), first]
        for number in range(first, first + len(loop)):
            self._note(number)
        return first

    def _note(self, number: int) -> None:
        (x, y), (to_x, to_y) = self.points[number], self.points[self.after[number]]
        if x == to_x:
            for row in range(min(y, to_y), max(y, to_y)):
                insort(self.edges.setdefault(row, []), (x, number))

    def add(self, hole: list[_Point]) -> None:
        """Join a hole, after those that begin further left, with the edge on the left of its first corner."""
        first = min(range(len(hole)), key=lambda i: hole[i])
        x, y = hole[first]
        turned = hole[first:] + hole[:first]
        edge = self._edge_before(x, y)
        start = self._append([*turned, turned[0]])
        last = start + len(turned)
        cut = (self.points[edge][0], y)
        there, back = len(self.points), len(self.points) + 1
        self.points += [cut, cut]
        self.after += [start, self.after[edge]]
        self.after[edge], self.after[last] = there, back
        self._note(back)

    def _edge_before(self, x: int, row: int) -> int:
        """Return the number of the nearest edge on the left of ``x`` in the row."""
        edges = self.edges[row]
        at = bisect_left(edges, (x,)) - 1
        while not self._passes(edges[at][1], row):
            at -= 1
        return edges[at][1]

    def _passes(self, edge: int, row: int) -> bool:
        """Tell whether the edge, of which a part may have gone to another, still passes the row."""
        ends = self.points[edge][1], self.points[self.after[edge]][1]
        return min(ends) <= row < max(ends)

    def loops(self) -> list[list[_Point]]:
        """Return the points of each loop with the holes that were joined to it."""
        found = []
        for start in self.starts:
            loop, at = [self.points[start]], self.after[start]
            while at != start:
                loop.append(self.points[at])
                at = self.after[at]
            found.append(loop)
        return found
