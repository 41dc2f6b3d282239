"""The check of a data set: it reads every file as training will, and names what would break it."""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from tqdm import tqdm

from deeplab_fast.errors import UserError
from deeplab_fast.ops import DEFAULT_DECODING, Decoding, decode_image, decode_label, exif_orientation, is_transposed

from .labels import unfit_labels
from .lists import some_of
from .pairs import check_values, turn_between
from .sources import Sample, Source, as_they_come
from .threads import ordered_map

_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass
class Findings:
    """Findings of a check: ``problems`` break training, ``notes`` do not."""

    samples: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    seen: dict[str, str] = field(default_factory=dict)  # digest of an image to where it was first
    held_out: int = 0  # samples held out, checked beside


def check_source(
    source: Source,
    num_classes: int,
    ignore_label: int,
    num_workers: int = 0,
    held_out: Source | None = None,
    absent: Collection[int] | None = None,
    decoding: Decoding = DEFAULT_DECODING,
) -> Findings:
    """Decode every sample of ``source``; count label values; look for images shared with ``held_out``, by content.

    The samples of ``held_out`` are read in the same way. ``absent``: classes that rightly have no pixel; any other
    without one is a problem (None: no class is).
    """
    findings = Findings()
    check = partial(_check_one, num_classes=num_classes, ignore_label=ignore_label, decoding=decoding)
    _check_all(findings, "check", check, source, num_workers, decoding)
    unfit = unfit_labels(findings.pixels, num_classes, ignore_label, absent)
    if held_out is not None:
        others = Findings()
        _check_all(others, "check held-out", check, held_out, num_workers, decoding)
        for digest, where in others.seen.items():
            if first := findings.seen.get(digest):
                findings.problems.append(f"{where}: held-out, and also in the data as {first}")
        findings.problems += others.problems
        findings.notes += others.notes
        findings.held_out = len(held_out)
        unfit_there = unfit_labels(others.pixels, num_classes, ignore_label)
        if unfit_there and others.pixels.any():
            findings.problems.insert(0, f"held-out data: {unfit_there}")
    if unfit and (findings.pixels.any() or not findings.problems):
        findings.problems.insert(0, unfit)
    return findings


def _check_all(
    findings: Findings,
    description: str,
    check: Callable[[Source, int], "_Result"],
    source: Source,
    num_workers: int,
    decoding: Decoding,
) -> None:
    """Add the results of a source's samples to ``findings``, in their order."""
    palettes, ignored, turns = 0, [], _Turns(decoding.apply_exif)
    come = as_they_come(source, range(len(source)))
    results = ordered_map(partial(check, source), come, num_workers, 8 * num_workers)
    for result in tqdm(results, total=len(source), desc=description, unit="image", disable=None):
        findings.samples += 1
        findings.problems += result.problems
        palettes += result.is_palette
        turns.add(result)
        if result.pixels is not None:
            findings.pixels += result.pixels
        if result.size is not None:
            findings.sizes[result.size] += 1
        if result.is_ignored:
            ignored.append(result.label_where)
        if result.digest:
            first = findings.seen.setdefault(result.digest, result.where)
            if first != result.where:
                findings.notes.append(f"{result.where}: the same image as {first}")
    findings.notes += turns.notes()
    if palettes:
        findings.notes.append(
            f"{palettes} labels are palette PNG: their indexes are the classes, which is right here; tools that read"
            " colours will not agree"
        )
    if ignored:
        subject = f"{len(ignored)} labels hold" if len(ignored) > 1 else "1 label holds"
        findings.notes.append(f"{subject} nothing but the ignore label: {some_of(ignored)}")


@dataclass(frozen=True)
class _Result:
    problems: list[str]
    where: str = ""
    label_where: str = ""
    digest: str = ""
    size: tuple[int, int] | None = None  # of the image
    pixels: np.ndarray | None = None
    is_palette: bool = False
    is_ignored: bool = False  # the whole label
    orientation: int = 1
    label_orientation: int = 1
    label_size: tuple[int, int] | None = None


@dataclass
class _Turns:
    """Images that have an EXIF orientation, and labels that fit only what ``--exif`` makes of it."""

    is_applied: bool
    images: list[str] = field(default_factory=list)
    fitting: int = 0
    labels: list[str] = field(default_factory=list)

    def add(self, result: _Result) -> None:
        if result.orientation != 1:
            self.images.append(result.where)
            height_differs = result.size is not None and result.size[0] != result.size[1]
            self.fitting += is_transposed(result.orientation) and height_differs and result.size == result.label_size
        if result.label_orientation != 1:
            self.labels.append(result.where)

    def notes(self) -> list[str]:
        """Return lines for the findings."""
        notes = []
        if self.images:
            done = "turned by their EXIF orientation" if self.is_applied else "not turned by their EXIF orientation"
            only = f"; the labels of {self.fitting} fit only so" if self.fitting else ""
            flag = f"--exif={'apply' if self.is_applied else 'ignore'}"
            notes.append(f"{len(self.images)} images are {done} ({flag}){only}; the first is {self.images[0]}")
        if self.labels:
            notes.append(
                f"{len(self.labels)} labels have an EXIF orientation of their own, which is not applied; the first is"
                f" that of {self.labels[0]}"
            )
        return notes


def _digest(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest()


def _read(source: Source, index: int) -> Sample | UserError:
    try:
        return source.read(index)
    except UserError as error:
        return error


def _check_one(source: Source, index: int, num_classes: int, ignore_label: int, decoding: Decoding) -> _Result:
    sample = _read(source, index)
    if isinstance(sample, UserError):
        return _Result([str(sample)])
    problems = []
    size = None
    try:
        pixels_of_image = decode_image(sample.image, sample.image_where, decoding)
        size = (pixels_of_image.shape[0], pixels_of_image.shape[1])
    except UserError as error:
        problems.append(str(error))
    try:
        label = decode_label(sample.label, sample.label_where, decoding)
    except UserError as error:
        return _Result([*problems, str(error)])
    if size is not None and size != label.shape:
        problems.append(
            f"{sample.label_where}: {label.shape[1]}x{label.shape[0]} pixels; its image is {size[1]}x{size[0]}"
            f"{turn_between(sample.image, size, label.shape, decoding)}"
        )
    try:
        check_values(label, sample.label_where, num_classes, ignore_label)
    except UserError as error:
        problems.append(str(error))
    pixels = np.bincount(label.ravel(), minlength=256)
    is_palette = sample.label[:8] == _PNG and sample.label[25] == 3
    is_ignored = bool(pixels[ignore_label] == label.size)
    where = (sample.image_where, sample.label_where)
    turns = exif_orientation(sample.image), exif_orientation(sample.label)
    label_size = (label.shape[0], label.shape[1])
    return _Result(
        problems, *where, _digest(sample.image), size, pixels, is_palette, is_ignored, *turns, label_size=label_size
    )


def suggested_weights(pixels: np.ndarray) -> list[float]:
    """Return median-frequency class weights (Eigen and Fergus, arXiv 1411.4734, section 6.3.2), at most 10.

    ``pixels`` ``[num_classes]`` counts each class's pixels; a class without any gets 1.
    """
    present = pixels > 0
    if not present.any():
        return [1.0] * len(pixels)
    weights = np.ones(len(pixels))
    weights[present] = np.minimum(np.median(pixels[present]) / pixels[present], 10.0)
    return [float(f"{w:.3g}") for w in weights]
