"""Weights by a file's path or by the name of published ones: where they are on this machine, downloaded if need be."""

import difflib
import logging
from contextlib import suppress
from pathlib import Path

import torch.hub

from deeplab_fast.errors import UserError
from deeplab_fast.storage.download import download
from deeplab_fast.storage.files import default_cache

from .pretrained import PRETRAINED, Pretrained

logger = logging.getLogger("deeplab_fast")


def find_weights(text: str, flag: str, cache_dir: str | Path = "") -> Path:
    """Return the file that ``text`` means: its path, else what is published under that name (:mod:`.pretrained`).

    The latter is looked for in the cache (``cache_dir``, by default that of this program) and in torch.hub's, and
    otherwise downloaded into the former, by one process; others wait for it. ``flag``: what ``text`` was given for.

    Raises:
        UserError: it is neither, or cannot be downloaded; says which file to put where.
    """
    found = published(text)
    if found is None:
        if Path(text).exists():
            return Path(text)
        raise unknown(text, f"{flag}={text}: no such file")
    folder = (Path(cache_dir) if cache_dir else default_cache()) / "weights"
    there = present(found, folder)
    return there or fetch_weights(found, folder, f"or give {flag}=FILE or another --cache_dir")


def published(text: str) -> Pretrained | None:
    """Return the published weights that ``text`` names; None for any other text and where a file has that name."""
    return None if Path(text).is_file() else PRETRAINED.get(text)


def fetch_weights(weights: Pretrained, folder: Path, advice: str = "") -> Path:
    """Return the file in ``folder``, downloaded into it unless it is there.

    Raises:
        UserError: as :func:`deeplab_fast.storage.download.download`.
    """
    path = folder / weights.file.name
    if not path.exists():
        logger.info("%s: %s (%s)", weights.file.name, weights.origin, weights.licence)
    download(weights.file, path, advice)
    return path


def present(weights: Pretrained, folder: Path) -> Path | None:
    """Return the published file where it is, whole, in ``folder`` or in torch.hub's cache; None where it is not."""
    for place in (folder, Path(torch.hub.get_dir()) / "checkpoints"):
        path = place / weights.file.name
        with suppress(OSError):
            if path.is_file() and weights.file.fault(path) is None:
                return path
    return None


def unknown(text: str, beginning: str) -> UserError:
    """Return the error that a name is none of those known, with the nearest of them."""
    near = difflib.get_close_matches(text, PRETRAINED, n=3)
    if near:
        return UserError(f"{beginning}; did you mean {' or '.join(near)}?")
    return UserError(f"{beginning}; expected a file, or one of {', '.join(PRETRAINED)}")


def imagenet_weights(backbone: str) -> str | None:
    """Return the first name of published weights that a backbone can start from, None where there is none."""
    return next((name for name, weights in PRETRAINED.items() if weights.backbone == backbone), None)
