"""The data set doctor: reads every file as training will, and names what would break it."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from tqdm import tqdm

from deeplab_fast.errors import UserError
from deeplab_fast.ops import decode_image, decode_label

from .pairs import check_values
from .sources import Sample, Source
from .threads import ordered_map

_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass
class Findings:
    """What was found: ``problems`` break training, ``notes`` do not."""

    samples: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)


def check_source(
    source: Source, num_classes: int, ignore_label: int, num_workers: int = 0, held_out: Source | None = None
) -> Findings:
    """Decode every sample of ``source``; count label values; look for images shared with ``held_out``, by content."""
    findings = Findings()
    palettes = 0
    seen: dict[str, str] = {}  # digest of an image to where it was first
    check = partial(_check_one, source, num_classes=num_classes, ignore_label=ignore_label)
    results = ordered_map(check, range(len(source)), num_workers, 8 * num_workers)
    for result in tqdm(results, total=len(source), desc="check", unit="image", disable=None):
        findings.samples += 1
        findings.problems += result.problems
        palettes += result.is_palette
        if result.pixels is not None:
            findings.pixels += result.pixels
        if result.size is not None:
            findings.sizes[result.size] += 1
        if result.digest:
            first = seen.setdefault(result.digest, result.where)
            if first != result.where:
                findings.notes.append(f"{result.where}: the same image as {first}")
    if held_out is not None:
        for sample in map(partial(_read, held_out), range(len(held_out))):
            if not isinstance(sample, UserError) and (first := seen.get(_digest(sample.image), "")):
                findings.problems.append(f"{sample.image_where}: held-out, and also in the data as {first}")
    if palettes:
        findings.notes.append(
            f"{palettes} labels are palette PNG: their indexes are the classes, which is right here; tools that read"
            " colours will not agree"
        )
    return findings


@dataclass(frozen=True)
class _Result:
    problems: list[str]
    where: str = ""
    digest: str = ""
    size: tuple[int, int] | None = None  # of the image
    pixels: np.ndarray | None = None
    is_palette: bool = False


def _digest(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest()


def _read(source: Source, index: int) -> Sample | UserError:
    try:
        return source.read(index)
    except UserError as error:
        return error


def _check_one(source: Source, index: int, num_classes: int, ignore_label: int) -> _Result:
    sample = _read(source, index)
    if isinstance(sample, UserError):
        return _Result([str(sample)])
    problems = []
    size = None
    try:
        pixels_of_image = decode_image(sample.image, sample.image_where)
        size = (pixels_of_image.shape[0], pixels_of_image.shape[1])
    except UserError as error:
        problems.append(str(error))
    try:
        label = decode_label(sample.label, sample.label_where)
    except UserError as error:
        return _Result([*problems, str(error)])
    if size is not None and size != label.shape:
        problems.append(
            f"{sample.label_where}: {label.shape[1]}x{label.shape[0]} pixels; its image is {size[1]}x{size[0]}"
        )
    try:
        check_values(label, sample.label_where, num_classes, ignore_label)
    except UserError as error:
        problems.append(str(error))
    pixels = np.bincount(label.ravel(), minlength=256)
    is_palette = sample.label[:8] == _PNG and sample.label[25] == 3
    return _Result(problems, sample.image_where, _digest(sample.image), size, pixels, is_palette)


def suggested_weights(pixels: np.ndarray) -> list[float]:
    """Median-frequency class weights (Eigen and Fergus, arXiv 1411.4734, section 6.3.2), at most 10.

    ``pixels`` counts each class's pixels; a class without any gets 1.
    """
    present = pixels > 0
    if not present.any():
        return [1.0] * len(pixels)
    weights = np.ones(len(pixels))
    weights[present] = np.minimum(np.median(pixels[present]) / pixels[present], 10.0)
    return [float(f"{w:.3g}") for w in weights]
