"""Train and val lists of a data set of one's own."""

import os
from pathlib import Path

from deeplab_fast.errors import UserError

from .lists import list_line
from .philox import SHUFFLE, permutation
from .sources import FileSource
from .written import Written, check_unwritten, remove_ours, write_texts

TRAIN_LIST, VAL_LIST = "train_lst.txt", "val_lst.txt"


def write_split(source: FileSource, data_root: str | Path, val_share: float, seed: int) -> dict[Path, int]:
    """Write ``train_lst.txt`` and ``val_lst.txt`` into ``data_root``; returns the number of samples of each.

    The val list holds ``val_share`` of the samples, chosen by ``seed``, but at least one and never all. With a share of
    0 there is no val list.

    Raises:
        UserError: a file is not below ``data_root``, a list is there that is not ours, or there are too few samples.
    """
    root = Path(data_root)
    pairs = zip(source.images, source.labels, strict=True)
    lines = [list_line(_below(root, image), _below(root, label)) for image, label in pairs]
    order = permutation(seed, 0, len(lines), SHUFFLE)
    held_out = set(order[: held_out_count(len(lines), val_share)].tolist())
    parts = {TRAIN_LIST: [line for i, line in enumerate(lines) if i not in held_out]}
    written = Written(root)
    if held_out:
        parts[VAL_LIST] = [line for i, line in enumerate(lines) if i in held_out]
    texts = {name: "".join(part) for name, part in parts.items()}
    check_unwritten(written, texts)
    if not held_out and remove_ours(written, VAL_LIST):
        raise UserError(f"{root / VAL_LIST}: there, with --val_share=0, and not written by this program; move it away")
    write_texts(written, texts)
    return {root / name: len(part) for name, part in parts.items()}


def held_out_count(samples: int, share: float) -> int:
    """Return how many of ``samples`` are held out: their share, where it is above 0 at least one and never all.

    Raises:
        UserError: one sample cannot be shared.
    """
    if share == 0:
        return 0
    if samples < 2:
        raise UserError(f"--val_share={share:g}: one sample cannot be in both lists; expected more, or --val_share=0")
    return min(max(round(share * samples), 1), samples - 1)


def _below(root: Path, path: str) -> str:
    relative = os.path.relpath(path, root)
    if relative.split(os.sep)[0] == os.pardir:
        raise UserError(f"--data_root={root}: expected a folder that contains --image_dir and --label_dir")
    return relative
