"""The shards that ``--data_file`` names."""

import glob
import itertools
import logging
from dataclasses import dataclass
from pathlib import Path

from deeplab_fast.errors import UserError

from ..folders import is_hidden
from ..lists import some_of
from .description import DATASET_FILE, Listing
from .names import in_order, number_of, set_name

logger = logging.getLogger("deeplab_fast")

_HINT = "make records with 'prepare records', or train from files with --data_root and --data_lst"


@dataclass(frozen=True)
class Found:
    """Shards in their order. ``whole``: the set or its folder was named, so none of it may be missing."""

    paths: list[Path]
    whole: bool


def find_shards(data_file: str | Path, option: str = "data_file") -> list[Path]:
    """Find the shards that ``--data_file`` names: the name given to ``--dst_path``, one shard, a glob or a folder.

    Raises:
        UserError: nothing there, or something that is not a shard.
    """
    return locate(data_file, option).paths


def locate(data_file: str | Path, option: str = "data_file") -> Found:
    """Find the shards that ``--data_file`` names, as :func:`find_shards` does, and whether they must be a whole set."""
    given = Path(data_file)
    text = f"--{option}={data_file}"
    if given.is_dir():
        found = Found(_shards_of(_only_set(given, text)), True)
    elif given.is_file():
        found = Found([given], False)
    elif glob.has_magic(str(data_file)):
        found = Found(in_order(Path(p) for p in glob.glob(str(data_file))), False)
        if not found.paths:
            raise UserError(f"{text}: no file matches")
    else:
        found = Found(_shards_of(given), True)
        if not found.paths:
            raise UserError(f"{text}: no such file or set of shards; {_HINT}")
    for path in found.paths:
        if path.suffix != ".tar":
            raise UserError(f"{text}: {path.name} is not a tar shard; {_HINT}")
        if not path.is_file():
            raise UserError(f"{path}: missing; {path.with_name(DATASET_FILE)} lists it. Run prepare records again")
    return found


def _only_set(folder: Path, text: str) -> Path:
    """Return the name, ``D/voc.tar``, of the only set in a folder."""
    archives = sorted(path for path in folder.glob("*.tar") if not is_hidden(path.name))
    others = [path for path in archives if number_of(path) is None]
    sets = sorted({set_name(path) for path in archives if number_of(path) is not None})
    if not sets:
        if others:
            raise UserError(
                f"{text}: no NAME-NUMBER.tar in this folder; name one of {', '.join(str(path) for path in others)}"
            )
        raise UserError(f"{text}: no tar shard in this folder; {_HINT}")
    if len(sets) > 1:
        names = ", ".join(f"{folder / name}.tar" for name in sets)
        raise UserError(f"{text}: several sets in this folder; name one of {names}")
    if others:
        logger.warning("%s: without a number, so no shard of %s; left out", some_of(others), sets[0])
    return folder / f"{sets[0]}.tar"


def _shards_of(name: Path) -> list[Path]:
    """Find the shards of the set ``D/voc.tar``: those its description lists, else all of its name and a number."""
    found = in_order(
        path
        for path in name.parent.glob(f"{glob.escape(name.stem)}-*.tar")
        if set_name(path) == name.stem and number_of(path) is not None
    )
    listed = Listing(name).paths
    if listed:
        for path in sorted(set(found) - set(listed)):
            logger.warning("%s: %s does not list it; left out", path, DATASET_FILE)
        return listed
    for path, following in itertools.pairwise(found):
        if number_of(path) == number_of(following):
            raise UserError(f"{path} and {following.name}: two shards of one number; remove one, or name a glob")
    return found
