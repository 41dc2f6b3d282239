"""One file over all images of a prediction, made from the classes that were written: areas, and regions for COCO."""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..data.sources import read_bytes
from ..ops import Decoding, decode_label
from ..storage.files import replace_file, write_json
from ..storage.result_files import target_files
from .areas import count_pixels
from .inputs import Item
from .outline import outline
from .rle import box_of, encode_rle
from .video.classes import read_classes

PolygonFormat = Literal["rle", "outline"]
AREAS = ("areas.csv", "areas.json")
POLYGONS = ("polygons.json",)
FILES = {"areas": AREAS, "polygons": POLYGONS}  # by the word of --save


class Mask(NamedTuple):
    """Classes, uint8 ``[H, W]``, of an image, or of a video's ``frame`` at its ``time`` in seconds.

    ``name``: of the image or video, with ``/`` between folders.
    """

    name: str
    classes: NDArray[np.uint8]
    frame: int | None = None
    time: float | None = None


@dataclass(frozen=True)
class Masks:
    """The classes that were written below ``root`` for ``items``, and the ``names`` of all classes."""

    root: Path
    items: Sequence[Item]
    names: Sequence[str]
    decoding: Decoding

    def __iter__(self) -> Iterator[Mask]:
        """Yield what there is of each image, and of each frame of a video."""
        for item in tqdm(self.items, desc="summaries", unit="image", leave=False, disable=None):
            name = (item.stem.parent / item.path.name).as_posix()
            file = target_files(self.root / item.stem, of_video=item.is_video)[0]
            if item.is_video:
                for frame, (time, png) in enumerate(read_classes(file)):
                    yield Mask(name, decode_label(png, f"{file}, frame {frame}", self.decoding), frame, time)
            else:
                yield Mask(name, decode_label(read_bytes(file), str(file), self.decoding))


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
    """Write ``areas.csv``, a line for each image and each class that it has, and ``areas.json``, with totals.

    Of a video there is a line for each frame and each class, and the columns ``frame`` and ``time``, which are not
    there without a video.
    """
    images: list[dict[str, Any]] = []
    total = np.zeros(len(masks.names), np.int64)
    times = ("frame", "time") if any(item.is_video for item in masks.items) else ()
    with replace_file(masks.root / AREAS[0]) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("image", "class", "name", "pixels", "share", *times))
        for mask in masks:
            counts = count_pixels(mask.classes, len(masks.names))
            total += counts
            when = () if not times else ("", "") if mask.time is None else (mask.frame, f"{mask.time:.6f}")
            for index in np.flatnonzero(counts).tolist():
                count = int(counts[index])
                share = f"{count / mask.classes.size:.6g}"
                table.writerow((mask.name, index, masks.names[index], count, share, *when))
            _add_areas(images, mask, counts)
    content = {
        "classes": list(masks.names),
        "total": {"pixels": total.tolist(), "share": (total / max(1, total.sum())).tolist()},
        "images": images,
    }
    write_json(masks.root / AREAS[1], content)


def _add_areas(images: list[dict[str, Any]], mask: Mask, counts: NDArray[np.int64]) -> None:
    """Add the pixels of each class, ``counts`` int64 ``[C]``, as an image's, or to those of its video."""
    height, width = mask.classes.shape
    if mask.frame:  # not the first
        images[-1]["frames"] += 1
        images[-1]["pixels"] = [a + b for a, b in zip(images[-1]["pixels"], counts.tolist(), strict=True)]
    else:
        of_video = {} if mask.frame is None else {"frames": 1}
        images.append({"image": mask.name, "width": width, "height": height, **of_video, "pixels": counts.tolist()})


def write_polygons(masks: Masks, polygon_format: PolygonFormat) -> None:
    """Write ``polygons.json``, COCO's JSON: each class of each image, but class 0.

    As compressed run lengths (``rle``), or as a polygon for each of its regions (``outline``).
    """
    images: list[dict[str, Any]] = []
    number = 0
    with replace_file(masks.root / POLYGONS[0]) as partial, partial.open("w", encoding="utf-8") as file:
        file.write('{"annotations": [')
        for image, (name, classes, *_) in enumerate(masks, 1):
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
