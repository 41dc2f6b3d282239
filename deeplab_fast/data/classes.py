"""Names of a data set's classes: ``classes.txt`` beside its list files, or its records' description."""

from pathlib import Path

from .records import dataset_entry, find_shards

CLASSES_FILE = "classes.txt"

VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def read_class_names(folder: Path) -> list[str]:
    """Lines of the folder's ``classes.txt``; none where there is no such file."""
    path = folder / CLASSES_FILE
    if not path.is_file():
        return []
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def class_names(count: int, data_file: str = "", data_lst: str = "", data_root: str = "") -> list[str]:
    """The data set's ``count`` names, or ``class 0``, ... where it has none (or another number)."""
    names: list[str] = []
    if data_file:
        names = list((dataset_entry(find_shards(data_file)) or {}).get("classes", []))
    else:
        folders = ([Path(data_lst).parent] if data_lst else []) + ([Path(data_root)] if data_root else [])
        names = next((found for folder in folders if (found := read_class_names(folder))), [])
    return names if len(names) == count else [f"class {i}" for i in range(count)]
