"""Line charts as geometry: what a template draws as SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

WIDTH, HEIGHT = 470, 215
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 10, 34  # margins in the same units
COLOURS = 8  # that the style sheet has
MOST_POINTS = 700  # of a line: more than there are pixels across

Point = tuple[float, float]
Look = Literal["line", "faint", "dotted"]


@dataclass(frozen=True)
class Series:
    """Values by step. ``colour`` numbers one of the style sheet's :data:`COLOURS`; ``dots``: each value is marked."""

    label: str
    points: Sequence[Point]
    colour: int = 0
    look: Look = "line"
    dots: bool = False


@dataclass(frozen=True)
class Line:
    """A series in the chart's units: ``path`` is the ``points`` of an SVG polyline."""

    label: str
    path: str
    colour: int
    look: Look
    dots: tuple[Point, ...]


@dataclass(frozen=True)
class Chart:
    """A chart's geometry: ticks are (position, text); ``extent`` is the range of values: x0, x1, y0, y1."""

    title: str
    note: str
    unit: str
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    extent: tuple[float, float, float, float]


def line_chart(
    title: str, note: str, series: Sequence[Series], unit: str = "", top: float | None = None, x_from: float = 0
) -> Chart | None:
    """Lay out series over steps, the y axis from 0; None where no series has a point.

    ``unit`` stands behind a value that is pointed at. ``top``: the end of the y axis; default the largest value.
    """
    drawn = [one for one in series if any(math.isfinite(y) for _, y in one.points)]
    if not drawn:
        return None
    xs = [x for one in drawn for x, _ in one.points]
    highest = top if top is not None else max(y for one in drawn for _, y in one.points if math.isfinite(y))
    y_ticks = ticks(0, highest if highest > 0 else 1)
    extent = (min(x_from, *xs), max(max(xs), min(xs) + 1, x_from + 1), 0.0, max(y_ticks[-1], highest))
    lines = tuple(_line(one, extent) for one in drawn)
    x_ticks = tuple((_x(x, extent), short(x)) for x in ticks(extent[0], extent[1]) if x <= extent[1])
    return Chart(title, note, unit, lines, x_ticks, tuple((_y(y, extent), short(y)) for y in y_ticks), extent)


def _line(series: Series, extent: tuple[float, float, float, float]) -> Line:
    points = [(_x(x, extent), _y(min(y, extent[3]), extent)) for x, y in thinned(series.points)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return Line(series.label, path, series.colour, series.look, tuple(points) if series.dots else ())


def _x(value: float, extent: tuple[float, float, float, float]) -> float:
    return round(LEFT + (WIDTH - LEFT - RIGHT) * (value - extent[0]) / (extent[1] - extent[0]), 2)


def _y(value: float, extent: tuple[float, float, float, float]) -> float:
    return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / extent[3], 2)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers from ``low`` on, the last at or above ``high``: at most ``most`` and one more."""
    rough = (high - low) / (most - 1)
    scale = 10 ** math.floor(math.log10(rough))
    step = next(scale * m for m in (1, 2, 2.5, 5, 10) if scale * m >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def short(value: float) -> str:
    """Return a number for an axis: ``12k``, ``1.5M``, ``0.015``, ``2e-05``."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            divisor = 1e3 if letter == "k" else size
            return f"{value / divisor:.4g}{letter}"
    return f"{value:.4g}"


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """Return at most about ``most`` points that look the same: the lowest and highest of each stretch, in order.

    Values that are no finite number are left out.
    """
    finite = [(x, y) for x, y in points if math.isfinite(y)]
    if len(finite) <= most:
        return finite
    kept: list[Point] = []
    stretch = -(-2 * len(finite) // most)
    for i in range(0, len(finite), stretch):
        part = finite[i : i + stretch]
        kept += sorted({min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])})
    return kept


def running_mean(points: Sequence[Point], window: int) -> list[Point]:
    """Return the mean of each ``window`` values that follow each other, at the last one's step."""
    found, total = [], 0.0
    for i, (x, y) in enumerate(points):
        total += y - (points[i - window][1] if i >= window else 0.0)
        if i >= window - 1:
            found.append((x, total / window))
    return found
