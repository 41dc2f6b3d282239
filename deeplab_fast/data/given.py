"""Splits that are given: files that name the samples of a list, one a line."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deeplab_fast.errors import UserError

from .folders import IMAGE_SUFFIXES
from .lists import line_fields, read_lines, some_of

_EXPECTED = "the names of a split's images, one a line"


@dataclass(frozen=True)
class GivenSplit:
    """The indexes of a split's samples, in its file's order, each once; ``repeated`` counts lines that add nothing."""

    file: Path
    samples: list[int]
    repeated: int


class SampleNames:
    """Samples by what a line may call them: the end of an image's path, as far up as it says, its suffix optional."""

    def __init__(self, images: Sequence[str], labels: Sequence[str], image_dir: str | Path) -> None:
        self._labels = [_parts(os.path.abspath(label), (".png",)) for label in labels]
        self._suffixes = [os.path.splitext(image)[1].lower() for image in images]
        self._paths = [_parts(os.path.abspath(image)) for image in images]
        self._depth = len(_parts(os.path.abspath(image_dir)))
        self._by_stem: dict[str, list[int]] = {}
        for index, parts in enumerate(self._paths):
            self._by_stem.setdefault(parts[-1], []).append(index)

    def find(self, name: str) -> list[int]:
        """Return the samples that a name means: none, one, or several where it does not say which."""
        parts = _parts(name)
        found = [i for i in self._by_stem.get(parts[-1], ()) if self._paths[i][-len(parts) :] == parts]
        exact = [i for i in found if self._paths[i][self._depth :] == parts]  # as it is below the folder of images
        found = exact or found
        suffix = os.path.splitext(name)[1].lower()
        return [i for i in found if self._suffixes[i] == suffix] or found

    def has_label(self, index: int, name: str) -> bool:
        """Tell whether a name may mean the sample's label."""
        parts = _parts(name, (".png",))
        return self._labels[index][-len(parts) :] == parts


def read_split(file: str | Path, names: SampleNames) -> GivenSplit:
    """Read a split's file: each line has an image's name, stem or path, or ``IMAGE LABEL``; blank lines are skipped.

    Raises:
        UserError: no readable text, no name in it, a name that means no sample or several, or another label than the
            sample's; says which line.
    """
    missing: list[str] = []
    samples: dict[int, None] = {}
    count = 0
    for number, line in _lines(file):
        count += 1
        index = _find(f"{file}, line {number}", line, names)
        if index is None:
            missing.append(f"{line} (line {number})")
        else:
            samples[index] = None
    if missing:
        verb = "names" if len(missing) > 1 else "name"
        raise UserError(
            f"{file}: {len(missing):,} of {count:,} {verb} no sample of --image_dir: {some_of(missing)}; expected names"
            " of its images"
        )
    if not count:
        raise UserError(f"{file}: empty; expected {_EXPECTED}")
    return GivenSplit(Path(file), list(samples), count - len(samples))


def check_disjoint(splits: Sequence[GivenSplit], images: Sequence[str]) -> None:
    """Raise :class:`UserError` where a sample is in two splits; names the first."""
    seen: dict[int, Path] = {}
    for split in splits:
        if both := [i for i in split.samples if i in seen]:
            others = f", as are {len(both) - 1:,} others: {some_of([images[i] for i in both[1:]], 4)}"
            raise UserError(
                f"{split.file}: {images[both[0]]} is in {seen[both[0]]} too{others if len(both) > 1 else ''};"
                " expected no sample in two splits"
            )
        seen.update(dict.fromkeys(split.samples, split.file))


def _lines(file: str | Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(read_lines(file, _EXPECTED), 1):
        if line := line.strip(" \t"):
            yield number, line


def _find(where: str, line: str, names: SampleNames) -> int | None:
    """Return the sample that a line means: the whole of it is a name, or it is an image's and its label's."""
    label = ""
    found = names.find(line)
    if not found and len(fields := line_fields(line)) == 2:
        found, label = names.find(fields[0]), fields[1]
    if not found:
        return None
    if len(found) > 1:
        raise UserError(f"{where}: {line!r} is the name of {len(found)} images; expected their paths below --image_dir")
    if label and not names.has_label(found[0], label):
        raise UserError(
            f"{where}: {label} is not the label found for {fields[0]}; expected that, or images' names alone"
        )
    return found[0]


def _parts(path: str, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> tuple[str, ...]:
    """Return the folders and the name of a path, without a suffix of these, ``\\`` read as ``/``."""
    path = path.replace("\\", "/")
    stem, suffix = os.path.splitext(path)
    parts = (stem if suffix.lower() in suffixes else path).split("/")
    return tuple(part for part in parts if part not in ("", ".")) or ("",)
