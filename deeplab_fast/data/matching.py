"""Images and their labels, matched by their names in two folders or in one."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deeplab_fast.errors import UserError

from .folders import IMAGE_SUFFIXES, Found, find_files
from .lists import some_of

logger = logging.getLogger("deeplab_fast")


def match_labels(image_dir: str | Path, label_dir: str | Path, suffix: str = "") -> list[tuple[Path, Path]]:
    """Find the images below ``image_dir`` and each one's label below ``label_dir``: ``x.jpg``, ``x<suffix>.png``.

    The folders may be one, or one within the other. Logs what was left out and labels that have no image.

    Raises:
        UserError: a folder is missing, holds no image, or an image has no label, or two.
    """
    matched = match_some_labels(image_dir, label_dir, suffix)
    if matched.without:
        raise without_label(matched, suffix, ".png")
    return matched.pairs


@dataclass(frozen=True)
class Matched:
    """Pairs of an image and its label; images ``without`` one, and the names of labels without an image."""

    image_dir: Path
    label_dir: Path
    pairs: list[tuple[Path, Path]]
    without: list[Path]
    unused: list[str]


def match_some_labels(
    image_dir: str | Path, label_dir: str | Path, suffix: str = "", kinds: tuple[str, ...] = (".png",)
) -> Matched:
    """Find images and labels as :func:`match_labels`, where some may lack a label; labels end in one of ``kinds``.

    Raises:
        UserError: a folder is missing, holds no image, or an image has two labels.
    """
    image_dir, label_dir = Path(image_dir), Path(label_dir)
    for folder in (image_dir, label_dir):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
    if "/" in suffix:
        raise UserError(f"--label_suffix={suffix}: expected the end of a name, such as _mask")
    if image_dir.samefile(label_dir):
        found = find_files(image_dir, (*IMAGE_SUFFIXES, *kinds))
        pictures, labels = _apart(found.files, suffix, kinds)
        _say_left_out(found)
    else:
        of_images = find_files(image_dir, IMAGE_SUFFIXES, skip=label_dir)
        of_labels = find_files(label_dir, kinds, skip=image_dir)
        pictures, labels = of_images.files, of_labels.files
        _say_left_out(of_images)
        _say_left_out(of_labels)
    if not pictures:
        apart = " (PNG files here are labels: name them by --label_suffix)" if labels else ""
        raise UserError(f"{image_dir}: no image{apart}; expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    return _pair(image_dir, label_dir, suffix, pictures, labels)


def _apart(files: Sequence[Path], suffix: str, kinds: tuple[str, ...]) -> tuple[list[Path], list[Path]]:
    """Separate images from labels in one folder: labels are of ``kinds``, with a suffix those whose names end in it."""
    are_labels = [path.suffix.lower() in kinds and path.stem.endswith(suffix) for path in files]
    images = [path for path, is_label in zip(files, are_labels, strict=True) if not is_label]
    return images, [path for path, is_label in zip(files, are_labels, strict=True) if is_label]


def _say_left_out(found: Found) -> None:
    if left_out := found.describe():
        logger.info("%s: left out: %s", found.folder, left_out)


def _pair(image_dir: Path, label_dir: Path, suffix: str, images: Sequence[Path], labels: Sequence[Path]) -> Matched:
    by_name = _by_name(label_dir, labels)
    names = [_name(image, image_dir) + suffix for image in images]
    without = [image for image, name in zip(images, names, strict=True) if name not in by_name]
    pairs = [(image, by_name[name]) for image, name in zip(images, names, strict=True) if name in by_name]
    unused = sorted(by_name.keys() - set(names))
    if pairs:
        _say_unused(label_dir, suffix, [(name, by_name[name].suffix) for name in unused])
        _say_alike(image_dir, images, names)
    return Matched(image_dir, label_dir, pairs, without, unused)


def _say_unused(label_dir: Path, suffix: str, unused: Sequence[tuple[str, str]]) -> None:
    orphans = [f"{name}{end}" for name, end in unused if name.endswith(suffix)]
    if orphans:
        count = f"{len(orphans):,} labels have" if len(orphans) > 1 else "1 label has"
        logger.info("%s: %s no image: %s", label_dir, count, some_of(orphans))
    if others := len(unused) - len(orphans):
        logger.info("%s: left out: %d label files without --label_suffix=%s", label_dir, others, suffix)


def _say_alike(image_dir: Path, images: Sequence[Path], names: Sequence[str]) -> None:
    counts = Counter(names)
    alike = [image.name for image, name in zip(images, names, strict=True) if counts[name] > 1]
    if alike:
        logger.warning(
            "%s: %s images have the name of another, but for the suffix, and the same label: %s",
            image_dir, f"{len(alike):,}", some_of(alike),
        )  # fmt: skip


def _name(path: Path, folder: Path) -> str:
    """Return the path below ``folder`` without its suffix."""
    return os.path.splitext(os.path.relpath(path, folder))[0]


def _by_name(folder: Path, labels: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for label in labels:
        name = _name(label, folder)
        if name in found:
            raise UserError(f"{label}: {found[name].name} is there too; expected one label of this name")
        found[name] = label
    return found


def without_label(matched: Matched, suffix: str, kind: str) -> UserError:
    """Return the error that names images without a label, the label expected, and a suffix that would give one.

    ``kind`` is the end of the labels' names, such as ``.png``.
    """
    image_dir, missing = matched.image_dir, matched.without
    name = _name(missing[0], image_dir)
    expected = matched.label_dir / f"{name}{suffix}{kind}"
    ends = ((other, _end(name, other)) for other in matched.unused)
    hint = next((f"; {other}{kind} is there: --label_suffix={end}?" for other, end in ends if end), "")
    if len(missing) == 1:
        return UserError(f"{missing[0]}: no label; expected {expected}{hint}")
    count = len(missing) + len(matched.pairs)
    names = [os.path.relpath(path, image_dir) for path in missing]
    return UserError(
        f"{image_dir}: {len(missing):,} of {count:,} images have no label: {some_of(names)}; expected {expected},"
        f" ...{hint}"
    )


def _end(name: str, label: str) -> str:
    """Return what a label's name has after the image's, where that may be a suffix; else nothing."""
    end = label.removeprefix(name) if label.startswith(name) else ""
    return end if end[:1] in ("_", "-", ".") and "/" not in end else ""
