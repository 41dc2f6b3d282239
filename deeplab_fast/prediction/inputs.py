"""The images and videos that ``--input`` means, the names of their results, and what stands in a result's way."""

import glob
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..config import DecodingConfig
from ..config.urls import is_url
from ..data.folders import IMAGE_SUFFIXES, find_files, is_hidden
from ..data.lists import line_fields, read_lines
from ..errors import UserError
from ..storage.mask_folder import results_among
from ..storage.result_files import target_files
from ..storage.video_files import INSTALL, VIDEO_SUFFIXES, can_read_videos, is_video
from .remote_image import RemoteImage

logger = logging.getLogger("deeplab_fast")

LIST_SUFFIX = ".txt"
_SUFFIXES = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
_NOTHING = f"no image and no video; expected files ending in {', '.join(_SUFFIXES)}"


class Item(NamedTuple):
    """An image, a file or elsewhere, or a video file, and where its results go below the output: without suffix."""

    path: Path | RemoteImage
    stem: Path

    @property
    def is_video(self) -> bool:
        """Tell whether the file is taken for a video."""
        return isinstance(self.path, Path) and is_video(self.path)


def find_inputs(given: str, max_pixels: int = DecodingConfig.max_pixels) -> list[Item]:
    """Find what to segment: a file or a URL, those of a folder or that match a pattern, or those that a list names.

    ``max_pixels``: the largest image, which limits what is downloaded.

    Raises:
        UserError: there is none.
    """
    if is_url(given):
        return [_remote(given, max_pixels)]
    path = Path(given)
    if path.is_file():
        return _listed(path, max_pixels) if path.suffix.lower() == LIST_SUFFIX else [Item(path, Path(path.stem))]
    if path.is_dir():
        return _in_folder(path)
    if glob.has_magic(given):
        return _matching(given)
    raise UserError(f"--input={given}: no such file or folder")


def _in_folder(folder: Path) -> list[Item]:
    found = find_files(folder, _SUFFIXES)
    if left_out := found.describe():
        logger.info("%s: left out: %s", folder, left_out)
    if not found.files:
        raise UserError(f"--input={folder}: {_NOTHING}")
    return [Item(p, p.relative_to(folder).with_suffix("")) for p in found.files]


def _matching(pattern: str) -> list[Item]:
    """Return the images and videos that a pattern matches, ``**`` over subfolders.

    They are named from its last folder without a star.
    """
    fixed = _fixed_part(pattern)
    paths = sorted(Path(p) for p in glob.glob(pattern, recursive=True) if os.path.isfile(p))
    files = [p for p in paths if p.suffix.lower() in _SUFFIXES and not is_hidden(p.name)]
    if len(files) < len(paths):
        logger.info("%s: left out: %d files that are no image and no video", pattern, len(paths) - len(files))
    if not files:
        raise UserError(f"--input={pattern}: {_NOTHING}")
    return [Item(p, p.relative_to(fixed).with_suffix("")) for p in files]


def _fixed_part(pattern: str) -> Path:
    """Return the folder that a pattern names before its first star."""
    parts = Path(pattern).parts
    return Path(*parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))])


def _remote(url: str, max_pixels: int) -> Item:
    """Return the image at a URL; its results have its name without what no file is called."""
    image = RemoteImage(url, max_pixels)
    if is_video(image.name):
        raise UserError(f"{image}: a video at a URL; expected an image, or the video's file")
    return Item(image, Path(image.name).with_suffix(""))


def _listed(list_file: Path, max_pixels: int) -> list[Item]:
    """Return the files of a list: a path, from the list's folder, or a URL on each line; what follows is a label's.

    One that lies outside that folder gives its results its bare name.
    """
    items = []
    for number, line in enumerate(read_lines(list_file, "a list of images, one a line"), 1):
        words = line_fields(line)
        if not words:
            continue
        if is_url(words[0]) and len(words) <= 2:
            items.append(_remote(words[0], max_pixels))
            continue
        whole = line.strip()
        name = whole if len(words) == 1 or (list_file.parent / whole).is_file() else words[0]
        if len(words) > 2 and name != whole:
            raise UserError(f"{list_file}, line {number}: {len(words)} words; expected one image, or 'IMAGE LABEL'")
        path = list_file.parent / name
        inside = not Path(name).is_absolute() and ".." not in Path(name).parts
        items.append(Item(path, Path(name).with_suffix("") if inside else Path(path.stem)))
    if not items:
        raise UserError(f"{list_file}: empty; expected a list of images, one a line")
    return list(dict.fromkeys(items))


def without_unreadable(items: Sequence[Item], given: str) -> list[Item]:
    """Leave the videos of a folder with images out where the package is missing that reads them, and say so.

    Raises:
        UserError: it is missing, and there is nothing else, or a video was named otherwise.
    """
    images = [item for item in items if not item.is_video]
    missing = len(items) - len(images)
    if not missing or can_read_videos():
        return list(items)
    if not images or not Path(given).is_dir():
        raise UserError(f"{next(item.path for item in items if item.is_video)}: {INSTALL}")
    logger.warning("%s: left out: %s", given, f"{missing} video{'s' if missing > 1 else ''}; {INSTALL}")
    return images


def without_results(images: Sequence[Item], given: str) -> list[Item]:
    """Leave out, and count, what earlier predictions wrote below a folder or to where a pattern matches.

    What a user names by itself, alone or in a list, is taken as it is.
    """
    path = Path(given)
    if is_url(given) or path.is_file():
        return list(images)
    root = path if path.is_dir() else _fixed_part(given)
    files = [item.path for item in images if isinstance(item.path, Path)]
    results = results_among(files, root, is_root=not path.is_dir())
    kept = [item for item in images if item.path not in results]
    if results:
        where = ", ".join(sorted({str(path.parent) for path in results}))
        logger.info("left out: %d results of earlier predictions in %s", len(results), where)
    if not kept:
        raise UserError(f"--input={given}: nothing but results of earlier predictions")
    return kept


def check_targets(images: Sequence[Item], given: Path, out: Path, beside: Sequence[str]) -> None:
    """Raise :class:`UserError` where a result would replace an input or another result, or lie among the inputs.

    ``beside``: what is written beside the classes, names of :data:`deeplab_fast.storage.mask_folder.BESIDE`.
    """
    inputs = {item.path.resolve() for item in images if isinstance(item.path, Path)}
    sources: dict[Path, Path | RemoteImage] = {}
    for item in images:
        for target in target_files(out / item.stem, beside, item.is_video):
            if target.resolve() in inputs:
                raise UserError(f"--output={out}: {target} is an input; expected another folder")
            if target in sources:
                raise UserError(f"{item.path}: its result would have the name of {sources[target]}'s")
            sources[target] = item.path
    if given.is_dir() and given.resolve() == out.resolve():
        raise UserError(
            f"--output={out}: is --input; the next prediction would find results there. Expected another folder"
        )
