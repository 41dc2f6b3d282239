"""COCO's JSON of instances: outlines and run lengths become index maps."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from deeplab_fast.errors import UserError

from .coco_polygon import fill_polygon, require_pycocotools
from .documents import field, objects, read_json
from .image_index import Described, ImageIndex, labels_of
from .label_set import Draw, LabelSet, drawn
from .numbering import number_labels
from .points import read_points
from .runs import fill_runs, read_runs

EXPECTED = "COCO's JSON of instances"
_Size = tuple[int, int]


def read_coco(path: Path, images: ImageIndex, given: Sequence[str], given_by: str, ignore_label: int) -> LabelSet:
    """Read the labels of a COCO file: classes in the order of the categories' ids, behind the background.

    Annotations are drawn in the file's order, the later over the earlier; regions of ``iscrowd`` are ignored.

    Raises:
        UserError: the file is no such JSON, or an annotation cannot be drawn; names its id.
    """
    content = read_json(path, EXPECTED)
    if "shapes" in content:
        raise UserError(f"{path}: labelme's JSON of one image; expected the folder of such files, or {EXPECTED}")
    names = _categories(content, str(path))
    ordered = [names[number] for number in sorted(names)]
    numbering = number_labels(ordered, given, ignore_label, str(path), given_by)
    entries = _images(content, str(path))
    shapes: dict[int, list[Draw]] = {number: [] for number in entries}
    annotations = objects(content, "annotations", str(path))
    if any(isinstance(annotation.get("segmentation"), list) for annotation in annotations):
        require_pycocotools(str(path))
    for index, annotation in enumerate(annotations):
        named = annotation["id"] if isinstance(annotation.get("id"), int) else f"number {index}"
        where = f"{path}: annotation {named}"
        number = field(annotation, "image_id", "a whole number", where)
        if number not in entries:
            raise UserError(f"{where}: 'image_id' {number} is no image of the file")
        category = field(annotation, "category_id", "a whole number", where)
        if category not in names:
            raise UserError(f"{where}: 'category_id' {category} is no category of the file")
        value = ignore_label if annotation.get("iscrowd") else numbering.number(names[category], where)
        shapes[number] += _shapes(annotation, value, entries[number][1], where)
    described = [Described(name, size, drawn(shapes[number])) for number, (name, size) in entries.items()]
    return labels_of(path, images, described, numbering.names, Counter())


def _categories(content: dict[str, Any], where: str) -> dict[int, str]:
    names: dict[int, str] = {}
    for category in objects(content, "categories", where):
        number = field(category, "id", "a whole number", f"{where}: category")
        name = field(category, "name", "text", f"{where}: category {number}").strip()
        if number in names or name in names.values():
            raise UserError(f"{where}: category {number} ({name!r}) again; expected each id and name once")
        names[number] = name
    return names


def _images(content: dict[str, Any], where: str) -> dict[int, tuple[str, _Size]]:
    """Return file name and (height, width) of each image by its id."""
    entries: dict[int, tuple[str, _Size]] = {}
    for image in objects(content, "images", where):
        number = field(image, "id", "a whole number", f"{where}: image")
        named = f"{where}: image {number}"
        if number in entries:
            raise UserError(f"{named} again; expected each id once")
        size = (field(image, "height", "a whole number", named), field(image, "width", "a whole number", named))
        if min(size) < 1:
            raise UserError(f"{named}: {size[1]}x{size[0]} pixels; expected at least 1x1")
        entries[number] = field(image, "file_name", "text", named), size
    return entries


def _shapes(annotation: dict[str, Any], value: int, size: _Size, where: str) -> list[Draw]:
    """Return what draws an annotation: outlines, or run lengths, in an image of this (height, width)."""
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, list) and segmentation:
        return [
            partial(fill_polygon, points=read_points(part, where), value=value, where=where) for part in segmentation
        ]
    if not isinstance(segmentation, dict):
        raise UserError(f"{where}: no 'segmentation'; expected outlines or run lengths (a box alone is no label)")
    if segmentation.get("size") != list(size):
        raise UserError(f"{where}: run lengths of size {segmentation.get('size')}; expected {list(size)} as its image")
    runs = read_runs(segmentation.get("counts"), size[0] * size[1], where)
    return [partial(fill_runs, runs=runs, value=value, top=0, left=0, height=size[0], width=size[1], order="F")]
