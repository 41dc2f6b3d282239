"""labelme's JSON, a file for each image: polygons, rectangles and circles become index maps, as by its converter."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from tqdm import tqdm

from deeplab_fast.data.matching import match_some_labels, without_label
from deeplab_fast.errors import UserError

from .documents import field, objects, read_json, shown
from .label_set import ImageLabel, Label, LabelSet, drawn
from .numbering import number_labels
from .points import Points, cut_to_image, read_points

EXPECTED = "labelme's JSON of one image"
Unsupported = Literal["error", "skip"]
_LARGEST_RADIUS = 100_000  # pixels: drawing takes time by the radius, not by what of it is in the image
_FEWEST = {"polygon": 3, "rectangle": 2, "circle": 2}  # points


def read_labelme(
    label_dir: Path,
    image_dir: Path,
    label_suffix: str,
    given: Sequence[str],
    given_by: str,
    ignore_label: int,
    unsupported: Unsupported,
) -> LabelSet:
    """Read the labels of labelme files that have their images' names: classes ``given``, or those found, sorted.

    Shapes are drawn in their order, the later over the earlier. ``unsupported``: of shapes that have no area.

    Raises:
        UserError: a file is no such JSON, or a shape cannot be drawn; names the file and the shape.
    """
    matched = match_some_labels(image_dir, label_dir, label_suffix, (".json",))
    if not matched.pairs:
        raise without_label(matched, label_suffix, ".json")
    left_out: Counter[str] = Counter()
    read = []
    for image, path in tqdm(matched.pairs, desc="read labelme", unit="file", disable=None):
        content = read_json(path, EXPECTED)
        read.append((image, path, _size(content, str(path)), _shapes(content, path, unsupported, left_out)))
    found = sorted({shape.label for *_, shapes in read for shape in shapes})
    numbering = number_labels(found, given, ignore_label, str(label_dir), given_by)
    labels = []
    for image, path, size, shapes in read:
        draws = [partial(s.fill, points=s.points, value=numbering.number(s.label, s.where)) for s in shapes]
        labels.append(ImageLabel(image, str(path), drawn(draws), size))
    return LabelSet(numbering.names, labels, matched.without, left_out)


class _Fill(Protocol):
    def __call__(self, label: Label, points: Points, value: int) -> None: ...


class _Shape(NamedTuple):
    label: str
    where: str
    fill: _Fill
    points: Points


def _size(content: dict[str, Any], where: str) -> tuple[int, int] | None:
    """Return (height, width) of the image, where the file states it."""
    if content.get("imageHeight") is None and content.get("imageWidth") is None:
        return None
    return (
        field(content, "imageHeight", "a whole number", where),
        field(content, "imageWidth", "a whole number", where),
    )


def _shapes(content: dict[str, Any], path: Path, unsupported: Unsupported, left_out: Counter[str]) -> list[_Shape]:
    shapes: list[_Shape] = []
    for index, shape in enumerate(objects(content, "shapes", str(path))):
        where = f"{path}: shape {index}"
        label = field(shape, "label", "text", where).strip()
        kind = shape.get("shape_type") or "polygon"  # files of old versions do not say
        if not isinstance(kind, str) or kind not in _FEWEST:
            if unsupported == "error":
                raise UserError(
                    f"{where} ({label!r}): shape type {kind!r}; expected {', '.join(_FEWEST)}; --unsupported=skip"
                    " leaves such shapes out"
                )
            left_out[f"shape of type {shown(str(kind)[:40])}"] += 1
            continue
        points = read_points(field(shape, "points", "a list", where), f"{where} ({label!r})", _FEWEST[kind])
        if kind == "circle" and _radius(points) > _LARGEST_RADIUS:
            raise UserError(f"{where} ({label!r}): radius {_radius(points):g}; expected at most {_LARGEST_RADIUS}")
        shapes.append(_Shape(label, where, _FILL[kind], points))
    return shapes


def fill_polygon(label: Label, points: Points, value: int) -> None:
    """Put ``value`` into ``label`` ``[H, W]`` within the outline ``points`` ``[N, 2]`` and on it."""
    height, width = label.shape
    points = cut_to_image(points, height, width)
    if len(points) < 2:
        return
    with _canvas(label, points.min(axis=0), points.max(axis=0)) as (draw, corner):
        outline = [tuple(point) for point in (points - corner).tolist()]
        draw.polygon(outline, outline=value, fill=value)


def fill_rectangle(label: Label, points: Points, value: int) -> None:
    """Put ``value`` into ``label`` ``[H, W]`` between two corners ``[2, 2]``, theirs included."""
    (left, top), (right, bottom) = np.sort(points[:2], axis=0).astype(int)
    label[max(top, 0) : max(bottom + 1, 0), max(left, 0) : max(right + 1, 0)] = value


def fill_circle(label: Label, points: Points, value: int) -> None:
    """Put ``value`` into ``label`` ``[H, W]`` within a circle and on it.

    ``points`` ``[2, 2]``: its centre and one on it.
    """
    radius = _radius(points)
    low, high = points[0] - radius, points[0] + radius
    with _canvas(label, low, high) as (draw, corner):
        draw.ellipse([*(low - corner).tolist(), *(high - corner).tolist()], outline=value, fill=value)


@contextmanager
def _canvas(label: Label, low: Points, high: Points) -> Iterator[tuple[ImageDraw.ImageDraw, NDArray[np.int64]]]:
    """Yield what draws on the part of ``label`` between two corners (x, y), and the corner where that part begins.

    A set has many small shapes in large images.
    """
    corner = np.clip(np.floor(low) - 1, 0, label.shape[::-1]).astype(int)
    end = np.clip(np.ceil(high) + 2, 0, label.shape[::-1]).astype(int)
    window = label[corner[1] : end[1], corner[0] : end[0]]
    picture = Image.fromarray(window)
    yield ImageDraw.Draw(picture), corner
    window[:] = np.asarray(picture)


def _radius(points: Points) -> float:
    return float(np.hypot(*(points[1] - points[0])))


_FILL: dict[str, _Fill] = {"polygon": fill_polygon, "rectangle": fill_rectangle, "circle": fill_circle}
