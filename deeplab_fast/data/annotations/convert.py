"""Labels of a set written as index PNG files, and what they hold counted."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from deeplab_fast.data.lists import is_text
from deeplab_fast.data.pairs import size_error
from deeplab_fast.data.sources import Sample, read_bytes
from deeplab_fast.data.threads import ordered_map
from deeplab_fast.data.written import Written
from deeplab_fast.errors import UserError
from deeplab_fast.ops import Decoding, image_size
from deeplab_fast.storage.files import make_folder
from deeplab_fast.storage.image_files import encode_image

from .label_set import ImageLabel, Label


@dataclass
class Counts:
    """Pixels and images of each label value, ``[256]``; ``left_out``: what the labels lack, by kind."""

    labels: int = 0
    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    images: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    left_out: Counter[str] = field(default_factory=Counter)


def targets_of(labels: Sequence[ImageLabel], image_dir: Path, output: Path) -> list[Path]:
    """Return the file of each label: its image's path below ``image_dir``, ending in ``.png``, below ``output``.

    Raises:
        UserError: two images would have one label, or a name is not Unicode.
    """
    images: dict[Path, Path] = {}
    for label in labels:
        if not is_text(os.fspath(label.image)):
            raise UserError(f"the name {os.fspath(label.image)!r} is not UTF-8; expected one that lists can hold")
        target = output / Path(os.path.relpath(label.image, image_dir)).with_suffix(".png")
        if target in images:
            raise UserError(f"{label.image}: its label would have the name of {images[target]}'s; rename one of them")
        images[target] = label.image
    return list(images)


def write_labels(
    labels: Sequence[ImageLabel], targets: Sequence[Path], written: Written, decoding: Decoding, num_workers: int
) -> Counts:
    """Write each label as a grey PNG under its target, and count what they hold. All are made, also those there.

    Raises:
        UserError: a label cannot be made or is not of its image's size, or a target cannot be written, or is there,
            was not written by this program and holds something else (nothing is written then).
    """
    there = tqdm(targets, desc="look for labels", unit="label", leave=False, disable=None)
    for label, target in zip(labels, there, strict=True):
        if os.path.lexists(target) and not written.is_ours(target):
            _refuse_other(label, target, decoding)
    counts = Counts(len(labels))
    made = ordered_map(partial(_made, decoding=decoding), labels, num_workers, 4 * num_workers)
    for target, (encoded, pixels, left_out) in zip(
        targets, tqdm(made, total=len(labels), desc="labels", unit="image", disable=None), strict=True
    ):
        make_folder(target.parent, str(target.parent))
        written.write(target, encoded, durable=False)
        counts.pixels += pixels
        counts.images += pixels > 0
        counts.left_out += left_out
    return counts


def _made(label: ImageLabel, decoding: Decoding) -> tuple[bytes, NDArray[np.int64], Counter[str]]:
    """Return a label's PNG, its pixels of each value ``[256]``, and what was left out."""
    drawn, left_out = make_label(label, decoding)
    return _png(drawn), np.bincount(drawn.ravel(), minlength=256), left_out


def make_label(label: ImageLabel, decoding: Decoding) -> tuple[Label, Counter[str]]:
    """Make the index map of an image, uint8 ``[H, W]``; counts by kind what it ignored.

    Raises:
        UserError: it cannot be made, or is not of the image's size; says where EXIF orientation explains that.
    """
    image = read_bytes(label.image)
    where = str(label.image)
    size = image_size(image, where, decoding)
    if label.size is not None and label.size != size:
        raise size_error(Sample("", image, b"", where, label.where), size, label.size, decoding)
    drawn, left_out = label.make(size)
    if drawn.shape != size:
        raise size_error(Sample("", image, b"", where, label.where), size, drawn.shape, decoding)
    return drawn, left_out


def _refuse_other(label: ImageLabel, target: Path, decoding: Decoding) -> None:
    """Raise :class:`UserError` unless the target holds this label: another one would be written over it."""
    if not target.is_file() or read_bytes(target) != _png(make_label(label, decoding)[0]):
        raise UserError(
            f"{target}: this program did not write it, and would now write something else; move it away, or choose"
            " another --output"
        )


def _png(label: Label) -> bytes:
    return encode_image(Image.fromarray(label), ".png")
