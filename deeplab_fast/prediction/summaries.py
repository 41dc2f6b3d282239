"""One file over all images of a prediction, made from the classes that were written: areas, and regions for COCO."""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..data.sources import read_bytes
from ..ops import Decoding, decode_label
from ..storage.files import replace_file, write_json
from .areas import count_pixels
from .inputs import Item
from .outline import outline
from .rle import box_of, encode_rle

PolygonFormat = Literal["rle", "outline"]
AREAS = ("areas.csv", "areas.json")
POLYGONS = ("polygons.json",)
FILES = {"areas": AREAS, "polygons": POLYGONS}  # by the word of --save


@dataclass(frozen=True)
class Masks:
    """The classes that were written below ``root`` for ``items``, and the ``names`` of all classes."""

    root: Path
    items: Sequence[Item]
    names: Sequence[str]
    decoding: Decoding

    def __iter__(self) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        """Yield the name of each image, with ``/`` between folders, and its classes, uint8 ``[H, W]``."""
        for path, stem in tqdm(self.items, desc="summaries", unit="image", leave=False, disable=None):
            mask = self.root / stem.with_name(f"{stem.name}.png")
            yield (stem.parent / path.name).as_posix(), decode_label(read_bytes(mask), str(mask), self.decoding)


def write_summaries(kinds: Sequence[str], masks: Masks, polygon_format: PolygonFormat) -> None:
    """Write the files of each kind in ``kinds``, whole or not at all; regions in the ``polygon_format``.

    Raises:
        UserError: the classes cannot be read again, or a file cannot be written.
    """
    for kind in kinds:
        if kind == "areas":
            write_areas(masks)
        else:
            write_polygons(masks, polygon_format)


def write_areas(masks: Masks) -> None:
    """Write ``areas.csv``, a line for each image and each class that it has, and ``areas.json``, with totals."""
    images: list[dict[str, Any]] = []
    total = np.zeros(len(masks.names), np.int64)
    with replace_file(masks.root / AREAS[0]) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("image", "class", "name", "pixels", "share"))
        for name, classes in masks:
            counts = count_pixels(classes, len(masks.names))
            total += counts
            for index in np.flatnonzero(counts).tolist():
                count = int(counts[index])
                table.writerow((name, index, masks.names[index], count, f"{count / classes.size:.6g}"))
            height, width = classes.shape
            images.append({"image": name, "width": width, "height": height, "pixels": counts.tolist()})
    content = {
        "classes": list(masks.names),
        "total": {"pixels": total.tolist(), "share": (total / max(1, total.sum())).tolist()},
        "images": images,
    }
    write_json(masks.root / AREAS[1], content)


def write_polygons(masks: Masks, polygon_format: PolygonFormat) -> None:
    """Write ``polygons.json``, COCO's JSON: each class of each image, but class 0.

    As compressed run lengths (``rle``), or as a polygon for each of its regions (``outline``).
    """
    images: list[dict[str, Any]] = []
    number = 0
    with replace_file(masks.root / POLYGONS[0]) as partial, partial.open("w", encoding="utf-8") as file:
        file.write('{"annotations": [')
        for image, (name, classes) in enumerate(masks, 1):
            height, width = classes.shape
            images.append({"id": image, "file_name": name, "width": width, "height": height})
            for index in (np.flatnonzero(count_pixels(classes, 1)[1:]) + 1).tolist():
                number += 1
                file.write("\n " if number == 1 else ",\n ")
                json.dump(
                    {"id": number, "image_id": image, **_annotation(classes == index, index, polygon_format)}, file
                )
        categories = [{"id": i, "name": name} for i, name in enumerate(masks.names) if i]
        file.write(f'],\n"images": {json.dumps(images)},\n"categories": {json.dumps(categories)}}}\n')


def _annotation(mask: NDArray[np.bool_], index: int, polygon_format: PolygonFormat) -> dict[str, Any]:
    """Return COCO's words for the pixels ``[H, W]`` of a class."""
    runs = polygon_format == "rle"
    found = {"size": list(mask.shape), "counts": encode_rle(mask)} if runs else outline(mask)
    area = int(np.count_nonzero(mask))
    return {"category_id": index, "segmentation": found, "area": area, "bbox": box_of(mask), "iscrowd": 0}
