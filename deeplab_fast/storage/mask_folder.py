"""The folder that prediction writes: which results are there, and what they were made from; no other's are replaced.

``predict.json`` says what made the folder's results. Each mask carries a mark of the same and of its image's content:
a result is done where the mark is that of this checkpoint, these flags and this image, and its files are as they were
written (:mod:`.result_files`). A video's result is the same with other files: its mask is the video of its classes.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tqdm import tqdm

from ..errors import UserError
from .files import make_folder, read_json, reason, replace_file, write_json
from .image_files import save_image
from .provenance import differences
from .result_files import (
    DIGESTS,
    MARK,
    content_digest,
    file_digest,
    find_damage,
    is_beginning,
    read_mark,
    target_files,
)
from .video_files import is_video

logger = logging.getLogger("deeplab_fast")

DESCRIPTION_FILE = "predict.json"


def read_provenance(root: Path) -> dict[str, Any] | None:
    """Return the provenance in the ``predict.json`` of a folder, or None where there is no such file.

    Raises:
        UserError: the file is another's, or cannot be read.
    """
    path = root / DESCRIPTION_FILE
    if not os.path.lexists(path):
        return None
    try:
        found = read_json(path)["provenance"]
        return dict(found)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({reason(error)})") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: does not say what made the results here; expected another --output") from None


@dataclass(frozen=True)
class MaskFolder:
    """The results below ``root`` and what they are made from."""

    root: Path
    provenance: dict[str, Any]
    beside: tuple[str, ...] = ()  # kinds of files that belong to a result, names of BESIDE
    over_all: tuple[str, ...] = ()  # files over all results

    def describe(self, **facts: Any) -> None:
        """Write ``predict.json``: the provenance, and ``facts`` for the reader."""
        write_json(self.root / DESCRIPTION_FILE, {**facts, "provenance": self.provenance})

    def make_folders(self, stems: Iterable[Path]) -> None:
        """Make the folders of all results, so that one that is missing later was removed."""
        for parent in sorted({stem.parent for stem in stems} | {Path()}):
            make_folder(self.root / parent, f"--output={self.root}")

    def mark(self, digest: str) -> str:
        """Return what a mask carries that was made from a file with the content's ``digest``."""
        made_from = json.dumps(self.provenance, sort_keys=True).encode()
        return f"{hashlib.sha256(made_from).hexdigest()} {digest}"

    def conflict(self, mask: Path, digest: str, is_ours: bool) -> str:
        """Say why the mask that is there is not by this checkpoint and these flags, or of a file of another ``digest``.

        Empty if it is not so. ``is_ours``: the folder is described as holding such results, so a mask cut short is one
        of them.
        """
        found, expected = read_mark(mask).split(), self.mark(digest).split()
        if len(found) != 2:
            return "" if is_ours and is_beginning(mask) else "is no result of this program"
        if found[0] != expected[0]:
            return "is the result of another checkpoint or other flags"
        return "" if found[1] == expected[1] else "is the result of another image, or of this one before it was changed"

    def write(
        self, stem: Path, digest: str, mask: Image.Image, beside: Mapping[str, Callable[[Path, PngInfo], None]]
    ) -> None:
        """Write a result, the mask last: where it is, all of it is.

        ``digest``: of the image file's content. ``beside``: who writes the other files, by kind, given a path and what
        a PNG is to hold.

        Raises:
            UserError: the disk is full, or the folder is gone.
        """
        mask_file, *others = target_files(self.root / stem, list(beside))
        text = PngInfo()
        text.add_text(MARK, self.mark(digest))
        digests = {}
        for kind, path in zip(beside, others, strict=True):
            with replace_file(path, durable=False) as partial:
                beside[kind](partial, text)
                digests[kind] = file_digest(partial)
        text.add_text(DIGESTS, json.dumps(digests))
        with replace_file(mask_file, durable=False) as partial:
            save_image(mask, partial, pnginfo=text)

    @contextmanager
    def open_video(self, stem: Path) -> Iterator[list[Path]]:
        """Give temporary paths for the files of a video's result, as :func:`target_files` lists them.

        They take their names where the block succeeds, the mask last; else nothing of them is left.

        Raises:
            UserError: the disk is full, or the folder is gone.
        """
        with ExitStack() as files:
            targets = target_files(self.root / stem, self.beside, of_video=True)
            yield [files.enter_context(replace_file(path)) for path in targets]

    def comment(self, digest: str) -> str:
        """Return what a video's files hold as their comment: the mark."""
        return f"{MARK} {self.mark(digest)}"


def results_among(paths: Iterable[Path], root: Path, is_root: bool = False) -> set[Path]:
    """Return those of the files ``paths``, images and videos, that predictions wrote into folders below ``root``.

    ``is_root``: or into ``root`` itself.

    They lie below a ``predict.json`` of this program and carry its mark, or are the overlay beside such a mask.
    """
    below = [(path, [p for p in path.parents if root in p.parents or (is_root and p == root)]) for path in paths]
    folders = {folder for _, parents in below for folder in parents if _is_described(folder)}
    return {path for path, parents in below if folders.intersection(parents) and _is_result(path)}


def _is_described(folder: Path) -> bool:
    try:
        return isinstance(read_json(folder / DESCRIPTION_FILE)["provenance"], dict)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _is_result(path: Path) -> bool:
    mask = path.with_name(f"{path.name.removesuffix('_overlay.jpg')}.png") if path.suffix == ".jpg" else path
    return bool(read_mark(mask))


class Readable(Protocol):
    """A file, or an image that is downloaded."""

    def read_bytes(self) -> bytes: ...


@dataclass(frozen=True)
class Found:
    """Results that are there already: ``done``, of the pairs asked for, and ``conflicts``, files of others there."""

    done: set[tuple[Readable, Path]]
    conflicts: list[str]


def find_results(folder: MaskFolder, images: Iterable[tuple[Readable, Path]], overwrite: bool) -> Found:
    """Look for what is done and what is in the way; ``images`` holds pairs of image, or video, and result name.

    ``overwrite``: results of others are made again, and where all that is there is ours, it too.

    Raises:
        UserError: without ``overwrite``, results of others would be replaced; or the system cannot read a file.
    """
    described = read_provenance(folder.root)
    is_ours = described == folder.provenance
    advice = "choose another --output, or --overwrite=True to replace what is there"
    if described is not None and not is_ours and not overwrite:
        other = differences(folder.provenance, described)
        raise UserError(f"--output={folder.root}: holds results of another run, which differs in {other}; {advice}")
    found = Found(set(), [])
    if described is None:
        there = [folder.root / name for name in folder.over_all if os.path.lexists(folder.root / name)]
        found.conflicts.extend(f"{path} is no result of this program" for path in there)
    for given, stem in tqdm(images, desc="look for results", unit="image", leave=False, disable=None):
        video = given if isinstance(given, Path) and is_video(given) else None
        mask, *others = targets = target_files(folder.root / stem, folder.beside, video is not None)
        if not os.path.lexists(mask):
            there = [path for path in others if os.path.lexists(path)] if described is None else []
            found.conflicts.extend(f"{path} is no result of this program" for path in there)
            continue
        if overwrite and is_ours:
            continue
        try:
            digest = content_digest(given.read_bytes()) if video is None else file_digest(video)
        except (OSError, UserError):
            continue  # named when its turn comes
        if why := folder.conflict(mask, digest, is_ours):
            found.conflicts.append(f"{mask} {why}")
            continue
        damaged = find_damage(targets, folder.beside)
        if damaged is None:
            found.done.add((given, stem))
        elif damaged.exists():
            logger.warning("%s: damaged; it is made again", damaged)
    if found.conflicts and not overwrite:
        more = f" (and {len(found.conflicts) - 1} more)" if len(found.conflicts) > 1 else ""
        raise UserError(f"{found.conflicts[0]}{more}; remove it, {advice}")
    return found
