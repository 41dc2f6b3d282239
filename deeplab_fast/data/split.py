"""Train, val and test lists of a data set of one's own."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeplab_fast.errors import UserError
from deeplab_fast.storage.files import make_folder

from .given import GivenSplit, SampleNames, check_disjoint, read_split
from .groups import check_apart, group_names
from .held_out import draw_parts
from .lists import list_line
from .sources import FileSource, read_bytes
from .written import Written, check_unwritten, digest, open_written, remove_ours, write_texts

TRAIN_LIST, VAL_LIST, TEST_LIST = "train_lst.txt", "val_lst.txt", "test_lst.txt"
PARTS = {"train": TRAIN_LIST, "val": VAL_LIST, "test": TEST_LIST}
SPLIT_FILE = "split_lst.json"
FORMAT = "deeplab_fast.split/1"


@dataclass(frozen=True)
class Split:
    """The indexes of the samples of ``parts``, by ``PARTS``' names; ``made`` is how, and repeats it."""

    parts: dict[str, list[int]]
    made: dict[str, Any]


def draw_split(names: Sequence[str], val_share: float, seed: int, test_share: float = 0, group_by: str = "") -> Split:
    """Draw the held-out samples of ``names``, paths below the folder of images; without a share there is no such part.

    ``seed`` decides. With ``group_by``, as :func:`~.groups.group_names` reads it, whole groups are held out.

    Raises:
        UserError: there are too few samples or groups, or a name without a group.
    """
    groups = group_names(names, group_by) if group_by else names
    train, (val, test) = draw_parts(groups, {"val_share": val_share, "test_share": test_share}, seed)
    parts = {name: part for name, part in zip(PARTS, (train, val, test), strict=True) if part or name == "train"}
    made: dict[str, Any] = {"seed": seed, "val_share": val_share, "test_share": test_share}
    if group_by:
        made |= {"group_by": group_by, "groups": {name: len({groups[i] for i in part}) for name, part in parts.items()}}
    return Split(parts, made)


def given_split(
    files: Sequence[str], source: FileSource, image_dir: str | Path, names: Sequence[str], group_by: str = ""
) -> tuple[Split, list[GivenSplit]]:
    """Read the files of the train, val and test samples, in this order; the last may be missing.

    ``names`` are the images' paths below ``image_dir``. Also returns what was read of each file.

    Raises:
        UserError: a file cannot be read or names no sample, or two share a sample or a group.
    """
    samples = SampleNames(source.images, source.labels, image_dir)
    read = [read_split(file, samples) for file in files]
    check_disjoint(read, names)
    parts = {name: split.samples for name, split in zip(PARTS, read, strict=False)}
    made: dict[str, Any] = {"split": [{"file": s.file.name, "sha256": digest(read_bytes(s.file))} for s in read]}
    if group_by:
        check_apart(parts, group_names(names, group_by), group_by)
        made["group_by"] = group_by
    return Split(parts, made), read


def write_split(
    source: FileSource, split: Split, data_root: str | Path, output: str | Path = "", **made_from: str
) -> dict[Path, int]:
    """Write the list of each part, and how they were made, into ``output``, or ``data_root``; returns their samples.

    Paths in the lists start from ``data_root``. A list of an earlier split that this one lacks is removed.
    ``made_from``: further flags to be noted.

    Raises:
        UserError: a file is not below ``data_root``, a list is there that is not ours, or nothing can be written.
    """
    root, folder = Path(data_root), Path(output or data_root)
    lines = [
        list_line(_below(root, image), _below(root, label))
        for image, label in zip(source.images, source.labels, strict=True)
    ]
    texts = {PARTS[name]: "".join(lines[i] for i in part) for name, part in split.parts.items()}
    texts[SPLIT_FILE] = _description(split, len(lines), texts, made_from)
    if output:
        make_folder(folder, f"--output={output}")
    with open_written(folder) as written:
        check_unwritten(written, texts)
        _remove_others(written, texts, split)
        write_texts(written, texts)
    return {folder / PARTS[name]: len(part) for name, part in split.parts.items()}


def _description(split: Split, samples: int, texts: Mapping[str, str], made_from: Mapping[str, str]) -> str:
    listed = sum(len(part) for part in split.parts.values())
    content = {
        "format": FORMAT,
        "made": {**{name: value for name, value in made_from.items() if value}, **split.made},
        "samples": {name: len(part) for name, part in split.parts.items()} | {"in no list": samples - listed},
        "sha256": {name: digest(text.encode()) for name, text in texts.items()},
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _remove_others(written: Written, texts: Mapping[str, str], split: Split) -> None:
    """Remove lists of an earlier split; a val list that stays would be taken for this one's."""
    for name in (VAL_LIST, TEST_LIST):
        if name not in texts and remove_ours(written, name) and name == VAL_LIST:
            why = "--split=" + ",".join(one["file"] for one in split.made["split"]) if "split" in split.made else ""
            raise UserError(
                f"{written.root / name}: there, with {why or '--val_share=0'}, and not written by this program; move it"
                " away"
            )


def _below(root: Path, path: str) -> str:
    relative = os.path.relpath(path, root)
    if relative.split(os.sep)[0] == os.pardir:
        raise UserError(f"--data_root={root}: expected a folder that contains --image_dir and --label_dir")
    return relative
