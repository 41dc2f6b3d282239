"""Samples that can be used, found out by decoding them, and the source without the others."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from deeplab_fast.errors import UserError
from deeplab_fast.ops import Decoding, decode_label

from .pairs import read_pair
from .sources import ByteRange, Sample, Source, as_they_come
from .threads import ordered_map


@dataclass(frozen=True)
class Subset:
    """The samples ``kept`` of ``whole``, in that order."""

    whole: Source
    kept: Sequence[int]

    def __len__(self) -> int:
        return len(self.kept)

    def key(self, index: int) -> str:
        return self.whole.key(self.kept[index])

    def where(self, index: int) -> tuple[str, str]:
        return self.whole.where(self.kept[index])

    def read(self, index: int) -> Sample:
        return self.whole.read(self.kept[index])

    def files(self) -> list[str]:
        return self.whole.files()

    def stamps(self) -> list[tuple[int, int]]:
        return self.whole.stamps()

    def byte_ranges(self, index: int) -> tuple[ByteRange, ByteRange]:
        return self.whole.byte_ranges(self.kept[index])

    def require(self, indexes: Sequence[int]) -> None:
        self.whole.require([self.kept[index] for index in indexes])

    def expect(self, indexes: Iterable[int]) -> None:
        self.whole.expect(self.kept[index] for index in indexes)


@dataclass(frozen=True)
class Findings:
    """Findings of decoding some samples of a source.

    ``faults`` says of each sample that cannot be used why, ``pixels`` counts the label values of the others: ``[256]``.
    """

    faults: dict[int, str]
    pixels: NDArray[np.int64]


def try_samples(
    source: Source,
    indexes: Sequence[int],
    num_classes: int,
    ignore_label: int,
    decoding: Decoding,
    threads: int,
    shows_bar: bool,
) -> Findings:
    """Decode the samples ``indexes`` as an evaluation will, in ``threads`` threads, and note what is wrong."""
    attempt = partial(_attempt, source, num_classes, ignore_label, decoding)
    results = ordered_map(attempt, as_they_come(source, indexes), threads, 8 * threads)
    bar = tqdm(
        results, total=len(indexes), desc="check", unit="image", leave=False, disable=None if shows_bar else True
    )
    faults: dict[int, str] = {}
    pixels = np.zeros(256, np.int64)
    for index, found in zip(indexes, bar, strict=True):
        if isinstance(found, str):
            faults[index] = found
        else:
            pixels += found
    return Findings(faults, pixels)


def _attempt(
    source: Source, num_classes: int, ignore_label: int, decoding: Decoding, index: int
) -> NDArray[np.int64] | str:
    """Return the sample's pixels of each label value, ``[256]``, or why it cannot be used."""
    try:
        _, label = read_pair(source, index, num_classes, ignore_label, decoding)
    except UserError as error:
        return str(error)
    return np.bincount(label.ravel(), minlength=256)


def count_labels(
    source: Source, decoding: Decoding, threads: int, at_once: int = 64
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Decode labels in portions that lie spread over the source, and yield how many were read and their pixels so far.

    The pixels are counted by label value: ``[256]``. A label that cannot be read counts for nothing: whoever uses its
    sample says so.
    """
    total = len(source)
    portions = max(1, -(-total // at_once))
    pixels, read = np.zeros(256, np.int64), 0
    for first in range(portions):
        indexes = range(first, total, portions)
        come = as_they_come(source, indexes)
        for found in ordered_map(partial(_label_pixels, source, decoding), come, threads, 8 * threads):
            pixels += found
        read += len(indexes)
        yield read, pixels.copy()


def _label_pixels(source: Source, decoding: Decoding, index: int) -> NDArray[np.int64]:
    try:
        sample = source.read(index)
        return np.bincount(decode_label(sample.label, sample.label_where, decoding).ravel(), minlength=256)
    except UserError:
        return np.zeros(256, np.int64)
