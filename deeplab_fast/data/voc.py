"""PASCAL VOC 2012 and SBD on disk: grey labels and the list files that the field trains on.

``trainaug`` is SBD's train and val images that are in neither VOC's train nor val, and VOC's train:
10,582 images (Hariharan et al., "Semantic contours from inverse detectors", ICCV 2011).
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeplab_fast.errors import UserError
from deeplab_fast.ops import decode_label
from deeplab_fast.storage.files import make_folder

from .classes import CLASSES_FILE, VOC
from .grey import convert
from .lists import list_line, read_lines, some_of
from .matlab import struct_field
from .written import Written, check_unwritten, open_written, write_texts

logger = logging.getLogger("deeplab_fast")

VOC_DIR = "VOCdevkit/VOC2012"
SBD_DIR = "benchmark_RELEASE/dataset"
VOC_LABELS = f"{VOC_DIR}/SegmentationClassGray"
SBD_LABELS = f"{SBD_DIR}/cls_png"
TRAIN_LIST, VAL_LIST, AUG_LIST = "voc_train_lst.txt", "voc_val_lst.txt", "vocaug_train_lst.txt"
FULL = {TRAIN_LIST: 1464, VAL_LIST: 1449, AUG_LIST: 10582}
_FULL_SBD = 11355


@dataclass(frozen=True)
class ListResult:
    """One list file and how many samples the full data set's has."""

    path: Path
    samples: int
    expected: int


def read_ids(path: Path) -> list[str]:
    """Read the image ids of a devkit's list, stripped, in order, blank lines skipped."""
    return [words[0] for line in read_lines(path, "the devkit's list of image ids") if (words := line.split())]


def sbd_label(data: bytes, where: str) -> NDArray[np.uint8]:
    """Read the class indexes of an SBD ``.mat`` file's GTcls structure: uint8 ``[H, W]``.

    Raises:
        UserError: no such structure, or its segmentation is no image of whole numbers from 0 to 255.
    """
    try:
        segmentation = struct_field(data, "GTcls", "Segmentation")
    except ValueError as error:
        raise UserError(f"{where}: not an SBD label ({error}); expected GTcls.Segmentation") from None
    if segmentation.ndim != 2 or segmentation.size == 0:
        found = f"{segmentation.dtype} {list(segmentation.shape)}"
        raise UserError(f"{where}: not an SBD label ({found}); expected numbers in two dimensions")
    values = segmentation.astype(np.float64)
    wrong = ~((values >= 0) & (values <= 255) & (values == np.floor(values)))  # NaN fails every comparison
    if wrong.any():
        raise UserError(f"{where}: label value {values[wrong][0]:g}; expected whole numbers from 0 to 255")
    return np.array(segmentation, np.uint8, order="C")


def write_lists(data_root: str | Path, output: str | Path = "") -> list[ListResult]:
    """Convert the labels below ``data_root`` and write them and the list files into ``output``, or ``data_root``.

    Expects ``VOCdevkit/VOC2012``; with ``benchmark_RELEASE/dataset`` also writes the augmented list.
    A label is converted again where its source changed. Files that are the user's own are kept, which is logged.

    Raises:
        UserError: the devkit is not there, a listed file is missing or damaged, a list is there that is the user's
            own, or data that is otherwise complete gives another number of samples than it must.
    """
    root = Path(data_root)
    train, val, sbd_ids = _read_ids(root)
    extra = sorted(set(sbd_ids) - set(train) - set(val)) if sbd_ids is not None else None
    folder = Path(output or data_root)
    lists = _pairs(train, val, extra, _way(root, folder))
    texts = {name: "".join(list_line(*pair) for pair in pairs) for name, pairs in lists.items()}
    classes, segmentations = root / VOC_DIR / "SegmentationClass", root / SBD_DIR / "cls"
    labels = [(classes / f"{i}.png", folder / VOC_LABELS / f"{i}.png") for i in [*train, *val]]
    sbd_labels = [(segmentations / f"{i}.mat", folder / SBD_LABELS / f"{i}.png") for i in extra or ()]
    images = dict.fromkeys(root / image for pairs in lists.values() for image, _ in pairs)
    _check_there([*images, *(source for source, _ in [*labels, *sbd_labels])])
    if output:
        make_folder(folder, f"--output={output}")
    with open_written(folder) as written:
        check_unwritten(written, texts)
        convert(labels, decode_label, "VOC labels", written)
        convert(sbd_labels, sbd_label, "SBD labels", written)
        write_texts(written, texts)
        _write_classes(written)
    results = [ListResult(folder / name, len(pairs), FULL[name]) for name, pairs in lists.items()]
    if len(train) == FULL[TRAIN_LIST] and len(val) == FULL[VAL_LIST] and len(sbd_ids or ()) == _FULL_SBD:
        for result in results:
            if result.samples != result.expected:
                raise UserError(
                    f"{result.path}: {result.samples} samples; the full data must give {result.expected}: an id in"
                    " SBD's lists was changed"
                )
    return results


def _read_ids(root: Path) -> tuple[list[str], list[str], list[str] | None]:
    """Read the ids of VOC's train and val images and of SBD's; None for these where SBD is not there."""
    voc, sbd = root / VOC_DIR, root / SBD_DIR
    if not voc.is_dir():
        raise UserError(f"--data_root={root}: no {VOC_DIR} in it; expected the folder that VOCdevkit was unpacked into")
    sets = voc / "ImageSets" / "Segmentation"
    train, val = read_ids(sets / "train.txt"), read_ids(sets / "val.txt")
    both = set(train) & set(val)
    if both:
        raise UserError(f"{sets}: {min(both)} is in train.txt and val.txt")
    if not sbd.is_dir():
        return train, val, None
    return train, val, list(dict.fromkeys(read_ids(sbd / "train.txt") + read_ids(sbd / "val.txt")))


def _way(root: Path, folder: Path) -> str:
    """Return what a path from ``root`` into ``folder`` begins with, empty or with a slash at its end."""
    way = os.path.relpath(folder.resolve(), root.resolve())  # where a link leads its ``..`` leads elsewhere
    return "" if way == os.curdir else f"{way}/".replace(os.sep, "/")


def _pairs(
    train: Sequence[str], val: Sequence[str], extra: Sequence[str] | None, way: str
) -> dict[str, list[tuple[str, str]]]:
    """Return image and label paths of each list; ``extra`` are SBD's images, None where SBD is not there."""
    of_voc = {
        name: [(f"{VOC_DIR}/JPEGImages/{i}.jpg", f"{way}{VOC_LABELS}/{i}.png") for i in ids]
        for name, ids in ((TRAIN_LIST, train), (VAL_LIST, val))
    }
    if extra is None:
        return of_voc
    of_sbd = [(f"{SBD_DIR}/img/{i}.jpg", f"{way}{SBD_LABELS}/{i}.png") for i in extra]
    return {**of_voc, AUG_LIST: of_sbd + of_voc[TRAIN_LIST]}


def _check_there(files: Sequence[Path]) -> None:
    missing = [path for path in files if not path.is_file()]
    if missing:
        others = f", as are {len(missing) - 1:,} others: {some_of(missing[1:], 4)}" if len(missing) > 1 else ""
        raise UserError(f"{missing[0]}: missing, but listed{others}")


def _write_classes(written: Written) -> None:
    """Write VOC's class names, unless a file of the user's own holds others."""
    texts = {CLASSES_FILE: "".join(f"{name}\n" for name in VOC)}
    try:
        write_texts(written, texts)
    except UserError:
        path = written.root / CLASSES_FILE
        if not path.is_file() or written.is_ours(path):
            raise
        logger.warning("%s: kept, your own; VOC's class names are not written over it", path)
