"""CVAT's XML, "CVAT for images 1.1": polygons, boxes and masks become index maps, as by its own export of masks."""

import math
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import Element

import numpy as np

from deeplab_fast.errors import UserError

from .coco_polygon import fill_polygon, require_pycocotools
from .documents import attribute, numeric_attribute, read_xml, shown, whole_attribute
from .image_index import Described, ImageIndex, labels_of
from .label_set import Draw, Label, LabelSet, drawn
from .numbering import Numbering, number_labels
from .points import FARTHEST, Points, read_points
from .runs import Runs, fill_runs, read_runs

EXPECTED = "XML of 'CVAT for images 1.1'"
_AREAS = ("polygon", "box", "mask")
_NO_SHAPES = ("tag",)  # of the whole image
_MOST_OF_IMAGE = 16  # times its pixels, of a mask that hangs over it; each takes memory


def read_cvat(
    path: Path,
    images: ImageIndex,
    given: Sequence[str],
    given_by: str,
    ignore_label: int,
    unsupported: Literal["error", "skip"],
) -> LabelSet:
    """Read the labels of a CVAT file: classes ``given``, or those of the task in its order, behind the background.

    Shapes are drawn by ``z_order``, and in the file's order where that is equal. ``unsupported``: of shapes that have
    no area.

    Raises:
        UserError: the file is no such XML, or a shape cannot be drawn; names the image and the shape.
    """
    root = read_xml(path, EXPECTED)
    if root.tag != "annotations" or root.find("track") is not None:
        found = "<track>: CVAT for video" if root.tag == "annotations" else f"<{root.tag[:40]}>"
        raise UserError(f"{path}: holds {found}; expected {EXPECTED}")
    left_out: Counter[str] = Counter()
    read = []
    for element in root.iterfind("image"):
        name = attribute(element, "name", str(path))
        where = f"{path}: {shown(name)}"
        size = whole_attribute(element, "height", where), whole_attribute(element, "width", where)
        read.append((name, where, size, _shapes(element, where, unsupported, left_out)))
    if any(shape.tag != "mask" for *_, shapes in read for shape in shapes):
        require_pycocotools(str(path))
    listed = [name for label in root.iterfind("./meta//labels/label/name") if (name := (label.text or "").strip())]
    used = sorted({attribute(shape, "label", where).strip() for _, where, _, shapes in read for shape in shapes})
    numbering = number_labels(listed or used, given, ignore_label, str(path), given_by)
    described = [
        Described(name, size, drawn([_draw(shape, where, numbering) for shape in shapes]))
        for name, where, size, shapes in read
    ]
    return labels_of(path, images, described, numbering.names, left_out)


def _shapes(image: Element, where: str, unsupported: str, left_out: Counter[str]) -> list[Element]:
    """Return the shapes of an image from the lowest to the highest."""
    shapes = []
    for element in image:
        if element.tag in _AREAS:
            shapes.append(element)
        elif element.tag not in _NO_SHAPES:
            if unsupported == "error":
                raise UserError(
                    f"{where}: <{element.tag[:40]}> of {element.get('label')!r}; expected {', '.join(_AREAS)};"
                    " --unsupported=skip leaves such shapes out"
                )
            left_out[f"<{element.tag}>"] += 1
    return sorted(shapes, key=lambda shape: whole_attribute(shape, "z_order", where, "0"))


def _draw(shape: Element, where: str, numbering: Numbering) -> Draw:
    label = attribute(shape, "label", where)
    value = numbering.number(label, where)
    named = f"{where}: <{shape.tag}> of {label!r}"
    if shape.tag == "mask":
        return _mask(shape, named, value)
    points = _corners(shape, named) if shape.tag == "box" else _outline(shape, named)
    return partial(fill_polygon, points=points, value=value, where=named)


def _outline(shape: Element, where: str) -> Points:
    text = attribute(shape, "points", where)
    pairs = [pair.split(",") for pair in text.split(";") if pair.strip()]
    return read_points(pairs, where)


def _corners(shape: Element, where: str) -> Points:
    """Return the corners of a box, turned about its middle by ``rotation`` degrees, clockwise as CVAT shows it."""
    left, top, right, bottom = (numeric_attribute(shape, name, where) for name in ("xtl", "ytl", "xbr", "ybr"))
    corners = read_points([left, top, right, top, right, bottom, left, bottom], where)
    angle = math.radians(numeric_attribute(shape, "rotation", where, "0"))
    if angle == 0:
        return corners
    middle = corners.mean(axis=0)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return (corners - middle) @ turn + middle


def _mask(shape: Element, where: str, value: int) -> Draw:
    left, top, width, height = (whole_attribute(shape, name, where) for name in ("left", "top", "width", "height"))
    if min(width, height) < 1 or max(abs(left), abs(top), width * height) > FARTHEST:
        raise UserError(f"{where}: a mask of {width}x{height} pixels at {left}, {top}; expected one in the image")
    text = attribute(shape, "rle", where)
    try:
        counts = [int(count) for count in text.split(",")]
    except ValueError:
        raise UserError(f"{where}: 'rle' is no list of whole numbers") from None
    runs = read_runs(counts, width * height, where)
    return partial(_fill_mask, runs=runs, value=value, top=top, left=left, height=height, width=width, where=where)


def _fill_mask(label: Label, runs: Runs, value: int, top: int, left: int, height: int, width: int, where: str) -> None:
    """Put ``value`` where runs ``[N]`` of the box at ``top``, ``left`` are 1; what hangs over ``[H, W]`` is cut off."""
    if width * height > _MOST_OF_IMAGE * label.size:
        raise UserError(f"{where}: a mask of {width}x{height} pixels; expected one in the image")
    fill_runs(label, runs, value, top, left, height, width, order="C")
