"""A data set's classes: ``classes.txt`` beside its list files, or its records' description."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeplab_fast.config import ModelConfig
from deeplab_fast.config.whole_number import whole_number
from deeplab_fast.errors import UserError

from .lists import read_lines
from .mindrecord import is_mindrecord
from .records import DATASET_FILE, dataset_entry, find_shards
from .remote import Records, RemoteSet

logger = logging.getLogger("deeplab_fast")

CLASSES_FILE = "classes.txt"

VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


@dataclass(frozen=True)
class Description:
    """The classes that a data set describes, and the file that does."""

    file: Path
    flags: dict[str, int]  # num_classes and, of records, ignore_label
    names: list[str]


def read_class_names(path: Path) -> list[str]:
    """Read the names of a file, one a line, blank lines skipped.

    Raises:
        UserError: no readable text, or a name that is there twice.
    """
    names: list[str] = []
    for number, line in enumerate(read_lines(path, "the names of the classes, one a line"), 1):
        name = line.strip()
        if name and name in names:
            raise UserError(f"{path}, line {number}: {name!r} again; expected each class once")
        if name:
            names.append(name)
    return names


def listed_names(text: str) -> list[str]:
    """Return the names that ``--classes`` gives: a file's, one a line, or those between commas.

    Raises:
        UserError: no readable file, or a name that is there twice.
    """
    path = Path(text)
    if path.is_file():
        return read_class_names(path)
    names = [name for name in map(str.strip, text.split(",")) if name]
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise UserError(f"--classes: {twice[0]!r} again; expected each class once")
    return names


def describe(data_file: Records = "", data_lst: str = "", data_root: str = "") -> Description | None:
    """Read what the data says of its classes: shards' ``dataset.json``, or a ``classes.txt`` with the data."""
    if data_file:
        return _describe_records(data_file)
    for folder in (Path(data_lst).parent if data_lst else None, Path(data_root) if data_root else None):
        if folder and (found := _described_in(folder)):
            return found
    return None


def _described_in(folder: Path) -> Description | None:
    file = folder / CLASSES_FILE
    if not file.is_file() or not (names := read_class_names(file)):
        return None
    return Description(file, {"num_classes": len(names)}, names)


def _describe_records(data_file: Records) -> Description | None:
    if isinstance(data_file, RemoteSet):
        shards = data_file.paths
    elif is_mindrecord(Path(data_file)):
        return _described_in(Path(data_file).parent)
    else:
        try:
            shards = find_shards(data_file)
        except UserError:  # opening them says it
            return None
    entry = dataset_entry(shards)
    if entry is None:
        return None
    file = shards[0].with_name(DATASET_FILE)
    names = entry.get("classes") or []
    flags: dict[str, int] = {name: entry[name] for name in ("num_classes", "ignore_label") if name in entry}
    is_sound = isinstance(names, list) and all(isinstance(value, int) for value in flags.values())
    if not is_sound or (names and len(names) != flags.setdefault("num_classes", len(names))):
        raise UserError(f"{file}: not as many names of classes as num_classes; run prepare records again")
    return Description(file, flags, [str(name) for name in names])


def described_flags(
    given: Mapping[str, Any], data_file: Records = "", data_lst: str = "", data_root: str = ""
) -> dict[str, Any]:
    """Read ``num_classes`` and ``ignore_label`` from the data's description; logs where it has none.

    Raises:
        UserError: ``given`` holds another value.
    """
    found = describe(data_file, data_lst, data_root)
    if found is None:
        if "num_classes" not in given:
            logger.info(
                "--num_classes: not given, and no %s or %s with the data: %d classes",
                CLASSES_FILE,
                DATASET_FILE,
                ModelConfig.num_classes,
            )
        return {}
    for name, value in found.flags.items():
        check_described(found, name, given.get(name, value))
    return dict(found.flags)


def check_described(found: Description, name: str, value: int) -> None:
    """Raise :class:`UserError` where a flag's value is not the one that the data's description has."""
    described = found.flags.get(name, value)
    if value == described:
        return
    said = f"names {described} classes" if name == "num_classes" else f"says {described}"
    raise UserError(f"--{name}={value}: {found.file} {said}; expected --{name}={described}, or correct that file")


def class_names(count: int, data_file: Records = "", data_lst: str = "", data_root: str = "") -> list[str]:
    """Return the data set's ``count`` names, or ``class 0``, ... where it has none.

    Raises:
        UserError: it has another number of classes.
    """
    found = describe(data_file, data_lst, data_root)
    if found is not None:
        check_described(found, "num_classes", count)
    return found.names if found and found.names else generic_names(count)


def generic_names(count: int) -> list[str]:
    """Return ``class 0``, ``class 1``, ...: the names of classes that have none."""
    return [f"class {i}" for i in range(count)]


def own_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names, or none of them where they are the generic ones."""
    return () if list(names) == generic_names(len(names)) else tuple(names)


def check_same_classes(
    names: Sequence[str], val_data_file: Records = "", val_data_lst: str = "", val_data_root: str = ""
) -> None:
    """Raise :class:`UserError` where held-out data describes other classes, or in another order, than ``names``."""
    found = describe(val_data_file, val_data_lst, val_data_root)
    if found is None:
        return
    check_described(found, "num_classes", len(names))
    generic = generic_names(len(names))
    for index, (name, other) in enumerate(zip(names, found.names or names, strict=True)):
        if name != other and list(names) != generic and found.names != generic:
            raise UserError(f"{found.file}: class {index} is {other!r}; expected {name!r}, as in the training data")


def class_numbers(text: str, names: Sequence[str], flag: str) -> set[int]:
    """Return numbers of the classes that a flag lists, by number or name, with commas between.

    Raises:
        UserError: no such class.
    """
    numbers = set()
    for word in filter(None, (part.strip() for part in text.split(","))):
        number = whole_number(word)
        if number is not None and number < len(names):
            numbers.add(number)
        elif word in names:
            numbers.add(names.index(word))
        else:
            raise UserError(f"--{flag}: {word!r} is not a class; expected names, or numbers from 0 to {len(names) - 1}")
    return numbers
