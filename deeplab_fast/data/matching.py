"""Images and their labels, matched by their names in two folders or in one."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
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
    image_dir, label_dir = Path(image_dir), Path(label_dir)
    for folder in (image_dir, label_dir):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
    if "/" in suffix:
        raise UserError(f"--label_suffix={suffix}: expected the end of a name, such as _mask")
    if image_dir.samefile(label_dir):
        found = find_files(image_dir, IMAGE_SUFFIXES)
        pictures, labels = _apart(found.files, suffix)
        _say_left_out(found)
    else:
        of_images = find_files(image_dir, IMAGE_SUFFIXES, skip=label_dir)
        of_labels = find_files(label_dir, (".png",), skip=image_dir)
        pictures, labels = of_images.files, of_labels.files
        _say_left_out(of_images)
        _say_left_out(of_labels)
    if not pictures:
        apart = " (PNG files here are labels: name them by --label_suffix)" if labels else ""
        raise UserError(f"{image_dir}: no image{apart}; expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    return _pair(image_dir, label_dir, suffix, pictures, labels)


def _apart(files: Sequence[Path], suffix: str) -> tuple[list[Path], list[Path]]:
    """Separate images from labels in one folder: labels are PNG files, with a suffix those whose names end in it."""
    are_labels = [path.suffix.lower() == ".png" and path.stem.endswith(suffix) for path in files]
    images = [path for path, is_label in zip(files, are_labels, strict=True) if not is_label]
    return images, [path for path, is_label in zip(files, are_labels, strict=True) if is_label]


def _say_left_out(found: Found) -> None:
    if left_out := found.describe():
        logger.info("%s: left out: %s", found.folder, left_out)


def _pair(
    image_dir: Path, label_dir: Path, suffix: str, images: Sequence[Path], labels: Sequence[Path]
) -> list[tuple[Path, Path]]:
    by_name = _by_name(label_dir, labels)
    names = [_name(image, image_dir) + suffix for image in images]
    missing = [image for image, name in zip(images, names, strict=True) if name not in by_name]
    unused = sorted(by_name.keys() - set(names))
    if missing:
        raise _without_label(image_dir, label_dir, suffix, len(images), missing, unused)
    _say_unused(label_dir, suffix, unused)
    _say_alike(image_dir, images, names)
    return [(image, by_name[name]) for image, name in zip(images, names, strict=True)]


def _say_unused(label_dir: Path, suffix: str, unused: Sequence[str]) -> None:
    orphans = [f"{name}.png" for name in unused if name.endswith(suffix)]
    if orphans:
        count = f"{len(orphans):,} labels have" if len(orphans) > 1 else "1 label has"
        logger.info("%s: %s no image: %s", label_dir, count, some_of(orphans))
    if others := len(unused) - len(orphans):
        logger.info("%s: left out: %d PNG files without --label_suffix=%s", label_dir, others, suffix)


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


def _without_label(
    image_dir: Path, label_dir: Path, suffix: str, count: int, missing: Sequence[Path], unused: Sequence[str]
) -> UserError:
    """Return the error that names images without a label, the label expected, and a suffix that would give one."""
    name = _name(missing[0], image_dir)
    expected = label_dir / f"{name}{suffix}.png"
    ends = ((other, _end(name, other)) for other in unused)
    hint = next((f"; {other}.png is there: --label_suffix={end}?" for other, end in ends if end), "")
    if len(missing) == 1:
        return UserError(f"{missing[0]}: no label; expected {expected}{hint}")
    names = [os.path.relpath(path, image_dir) for path in missing]
    return UserError(
        f"{image_dir}: {len(missing):,} of {count:,} images have no label: {some_of(names)}; expected {expected},"
        f" ...{hint}"
    )


def _end(name: str, label: str) -> str:
    """Return what a label's name has after the image's, where that may be a suffix; else nothing."""
    end = label.removeprefix(name) if label.startswith(name) else ""
    return end if end[:1] in ("_", "-", ".") and "/" not in end else ""
