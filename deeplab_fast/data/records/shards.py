"""Which shards ``--data_file`` names."""

import glob
import re
from pathlib import Path

from deeplab_fast.errors import UserError

from .description import DATASET_FILE, read_dataset


def shard_path(dst: Path, number: int) -> Path:
    return dst.with_name(f"{dst.stem}-{number:05d}.tar")


def find_shards(data_file: str | Path, option: str = "data_file") -> list[Path]:
    """Shards that ``--data_file`` names: the name given to ``--dst_path``, one shard, a glob or a folder.

    Raises:
        UserError: nothing there, or something that is not a shard.
    """
    given = Path(data_file)
    text = f"--{option}={data_file}"
    hint = "make records with 'prepare records', or train from files with --data_root and --data_lst"
    if glob.has_magic(str(data_file)):
        found = sorted(Path(p) for p in glob.glob(str(data_file)))
        if not found:
            raise UserError(f"{text}: no file matches")
    elif given.is_dir():
        stems = {re.sub(r"-\d{5}$", "", p.stem) for p in given.glob("*-[0-9]*.tar")}
        if not stems:
            raise UserError(f"{text}: no tar shard in this folder; {hint}")
        if len(stems) > 1:
            names = ", ".join(f"{given / stem}.tar" for stem in sorted(stems))
            raise UserError(f"{text}: several sets in this folder; name one of {names}")
        found = _shards_of(given / f"{stems.pop()}.tar")
    elif given.is_file():
        found = [given]
    else:
        found = _shards_of(given)
        if not found:
            raise UserError(f"{text}: no such file or set of shards; {hint}")
    for path in found:
        if path.suffix != ".tar":
            raise UserError(f"{text}: {path.name} is not a tar shard; {hint}")
        if not path.is_file():
            raise UserError(f"{path}: missing; {given.parent / DATASET_FILE} lists it. Run prepare records again")
    return found


def _shards_of(name: Path) -> list[Path]:
    """Shards of the set ``D/voc.tar``: those its description lists, else all that match."""
    file = name.with_name(DATASET_FILE)
    if file.is_file():
        entry = read_dataset(file)["sets"].get(name.stem)
        try:
            if entry is not None:
                return [name.with_name(shard["file"]) for shard in entry["shards"]]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{file}: the shards of {name.stem} are not named; run prepare records again") from None
    return sorted(name.parent.glob(f"{glob.escape(name.stem)}-[0-9]*.tar"))
