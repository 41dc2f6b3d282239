"""PASCAL VOC 2012 and SBD on disk: grey labels and the list files that the field trains on.

``trainaug`` is SBD's train and val images that are in neither VOC's train nor val, and VOC's train:
10,582 images (Hariharan et al., "Semantic contours from inverse detectors", ICCV 2011).
"""

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from deeplab_fast.errors import UserError
from deeplab_fast.ops import decode_label

from .classes import CLASSES_FILE, VOC
from .sources import read_bytes, write_text

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
    """Image ids of a devkit's list, stripped, in order, blank lines skipped."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; expected the devkit's list of image ids") from None
    return [line.split()[0] for line in lines if line.strip()]


def sbd_label(data: bytes, where: str) -> NDArray[np.uint8]:
    """Class indexes of an SBD ``.mat`` file's GTcls structure: uint8 ``[H, W]``."""
    from scipy.io import loadmat

    try:
        segmentation = loadmat(io.BytesIO(data))["GTcls"]["Segmentation"][0, 0]
        return np.ascontiguousarray(segmentation, np.uint8)
    except Exception as error:
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"{where}: not an SBD label ({reason}); expected a GTcls structure") from None


def write_lists(data_root: str | Path) -> list[ListResult]:
    """Convert the labels below ``data_root`` and write the list files into it.

    Expects ``VOCdevkit/VOC2012``; with ``benchmark_RELEASE/dataset`` also writes the augmented list.
    Labels already converted are kept.

    Raises:
        UserError: the devkit is not there, a listed file is missing or damaged, or data that is
            otherwise complete gives another number of samples than it must.
    """
    root = Path(data_root)
    voc, sbd = root / VOC_DIR, root / SBD_DIR
    if not voc.is_dir():
        raise UserError(f"--data_root={root}: no {VOC_DIR} in it; expected the folder that VOCdevkit was unpacked into")
    sets = voc / "ImageSets" / "Segmentation"
    train, val = read_ids(sets / "train.txt"), read_ids(sets / "val.txt")
    both = set(train) & set(val)
    if both:
        raise UserError(f"{sets}: {min(both)} is in train.txt and val.txt")
    classes = voc / "SegmentationClass"
    _convert(
        [(classes / f"{i}.png", root / VOC_LABELS / f"{i}.png") for i in [*train, *val]],
        decode_label,
        "VOC labels",
    )
    train_pairs = [(f"{VOC_DIR}/JPEGImages/{i}.jpg", f"{VOC_LABELS}/{i}.png") for i in train]
    val_pairs = [(f"{VOC_DIR}/JPEGImages/{i}.jpg", f"{VOC_LABELS}/{i}.png") for i in val]
    lists = {TRAIN_LIST: train_pairs, VAL_LIST: val_pairs}
    sbd_ids: list[str] = []
    if sbd.is_dir():
        sbd_ids = list(dict.fromkeys(read_ids(sbd / "train.txt") + read_ids(sbd / "val.txt")))
        extra = sorted(set(sbd_ids) - set(train) - set(val))
        _convert([(sbd / "cls" / f"{i}.mat", root / SBD_LABELS / f"{i}.png") for i in extra], sbd_label, "SBD labels")
        sbd_pairs = [(f"{SBD_DIR}/img/{i}.jpg", f"{SBD_LABELS}/{i}.png") for i in extra]
        lists[AUG_LIST] = sbd_pairs + train_pairs
    results = []
    for name, pairs in lists.items():
        for image, _ in pairs:
            if not (root / image).is_file():
                raise UserError(f"{root / image}: missing, but listed")
        write_text(root / name, "".join(f"{image} {label}\n" for image, label in pairs))
        results.append(ListResult(root / name, len(pairs), FULL[name]))
    write_text(root / CLASSES_FILE, "".join(f"{name}\n" for name in VOC))
    if len(train) == FULL[TRAIN_LIST] and len(val) == FULL[VAL_LIST] and len(sbd_ids) == _FULL_SBD:
        for result in results:
            if result.samples != result.expected:
                raise UserError(
                    f"{result.path}: {result.samples} samples; the full data must give {result.expected}: an id in"
                    " SBD's lists was changed"
                )
    return results


def _convert(
    files: Sequence[tuple[Path, Path]], read: Callable[[bytes, str], NDArray[np.uint8]], description: str
) -> None:
    """Write each source label as a grey PNG, unless that is already there."""
    for source, target in tqdm(files, desc=description, unit="file", disable=None):
        if target.exists():
            continue
        label = read(read_bytes(source), str(source))
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_suffix(".partial")
            Image.fromarray(label).save(partial, format="PNG")
            os.replace(partial, target)
        except OSError as error:
            raise UserError(f"{target}: cannot be written ({error.strerror})") from None
