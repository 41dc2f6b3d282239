"""Labels of labelling tools made into index PNG files: ``prepare labels``."""

import logging
import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from deeplab_fast.cli import parse_flags
from deeplab_fast.config import flag, validate
from deeplab_fast.data.annotations.convert import Counts, targets_of, write_labels
from deeplab_fast.data.annotations.label_set import ImageLabel, LabelSet, drawn
from deeplab_fast.data.annotations.numbering import is_background
from deeplab_fast.data.classes import CLASSES_FILE, listed_names
from deeplab_fast.data.labels import unfit_labels
from deeplab_fast.data.lists import list_line, some_of
from deeplab_fast.errors import UserError
from deeplab_fast.ops import Decoding

from .label_counts import as_table
from .label_format import FormatConfig, read_label_set
from .label_output import COUNTS_FILE, LABELLED_LIST, SHEET_FILE, OutputFolder

logger = logging.getLogger("deeplab_fast")

DESCRIPTION = (
    "Make index PNG files, one class number a pixel, of what labelling tools leave: masks of colours, of 0 and 255 or"
    " of other numbers, COCO's and labelme's JSON, CVAT's XML."
)


@dataclass(frozen=True, kw_only=True)
class LabelsConfig(FormatConfig):
    """Index PNG files"""

    output: str = flag("", "Folder for the labels, such as mine/labels: a PNG of each image's name.")
    data_root: str = flag(
        "", "Folder that holds images and labels; classes.txt, counts.json and sheet.png go there; default: the one"
        " above --output.",
    )  # fmt: skip
    unlabelled: Literal["error", "background", "skip"] = flag(
        "error", "Images without a label: background gives them class 0, skip makes a list of the others."
    )
    num_workers: int = flag(2, "Threads that make labels; 0 does it in the main thread.", minimum=0, maximum=256)


def main(argv: list[str]) -> int:
    """Make index PNG files of labels in other formats; return the exit status."""
    flags = parse_flags(LabelsConfig, argv, "deeplab_fast.prepare labels", DESCRIPTION)
    config = LabelsConfig(**flags)
    validate(config)
    for name, expected in (
        ("input", "the labels"),
        ("image_dir", "the folder of the images"),
        ("output", "the folder to write labels to"),
    ):
        if not getattr(config, name):
            raise UserError(f"--{name}: missing; expected {expected}")
    with OutputFolder.open(config.output, config.data_root, config.image_dir, config.input) as folder:
        names, names_from = listed_names(config.classes), "--classes"
        if not names and (names := folder.users_classes()):
            names_from = str(folder.root / CLASSES_FILE)
        labels = _with_unlabelled(config, read_label_set(config, flags, names, names_from))
        return _convert(config, folder, labels)


def _with_unlabelled(config: LabelsConfig, labels: LabelSet) -> LabelSet:
    """Return the set with labels of background for images without one, where the flags want them.

    Raises:
        UserError: such images are there and not expected, or no class is the background.
    """
    if not labels.without or config.unlabelled == "skip":
        return labels
    count, total = len(labels.without), len(labels.without) + len(labels.labels)
    some = some_of([os.path.relpath(path, config.image_dir) for path in labels.without])
    if config.unlabelled == "error":
        raise UserError(
            f"{config.image_dir}: {count:,} of {total:,} images have no label: {some}; --unlabelled=background gives"
            " them class 0, --unlabelled=skip leaves them out"
        )
    if not labels.names or not is_background(labels.names[0]):
        raise UserError("--unlabelled=background: class 0 is not named background; expected --unlabelled=skip")
    logger.info("%d images without a label are background: %s", count, some)
    empty = [ImageLabel(image, str(image), drawn([])) for image in labels.without]
    return replace(labels, labels=[*labels.labels, *empty], without=[])


def _convert(config: LabelsConfig, folder: OutputFolder, labels: LabelSet) -> int:
    decoding = Decoding.of(config)
    targets = targets_of(labels.labels, Path(config.image_dir), folder.labels)
    pairs = [(label.image, target) for label, target in zip(labels.labels, targets, strict=True)]
    texts = {LABELLED_LIST: _list_of(pairs, folder.root)} if labels.without else {}
    if labels.names and labels.names != folder.users_classes():
        texts[CLASSES_FILE] = _lines(labels.names)
    folder.check_texts(texts)
    counts = write_labels(labels.labels, targets, folder.written, decoding, config.num_workers)
    counts.left_out.update(labels.left_out)
    if labels.without:
        counts.left_out["image without a label"] = len(labels.without)
    names = labels.names
    if not names:
        names = _numbered(counts, config.ignore_label)
        texts[CLASSES_FILE] = _lines(names)
    folder.describe(texts, counts, pairs, names, config.ignore_label, decoding)
    print(as_table(counts, names, config.ignore_label))
    _say_next(config, folder, len(labels.labels), len(labels.without))
    if unfit := unfit_labels(counts.pixels, len(names), config.ignore_label):
        logger.warning("%s", unfit)
    return 0


def _numbered(counts: Counts, ignore_label: int) -> list[str]:
    """Return names for the values found: ``class 0``, ... up to the highest."""
    found = [int(value) for value in np.flatnonzero(counts.pixels) if value != ignore_label]
    return [f"class {i}" for i in range(max([1, *found]) + 1)]


def _lines(names: list[str]) -> str:
    return "".join(f"{name}\n" for name in names)


def _list_of(pairs: list[tuple[Path, Path]], root: Path) -> str:
    return "".join(list_line(os.path.relpath(image, root), os.path.relpath(label, root)) for image, label in pairs)


def _say_next(config: LabelsConfig, folder: OutputFolder, count: int, without: int) -> None:
    """Print where the results are, and the commands that go on with them."""
    root = str(folder.root)
    print(f"{count:,} labels in {folder.labels}; {CLASSES_FILE}, {COUNTS_FILE} and {SHEET_FILE} in {root}")
    more = [f"--ignore_label={config.ignore_label}"] if config.ignore_label != FormatConfig.ignore_label else []
    decoding = [] if config.exif == "apply" else [f"--exif={config.exif}"]
    folders = [f"--data_root={root}", f"--image_dir={config.image_dir}", f"--label_dir={folder.labels}"]
    if without:
        print(f"{without:,} images without a label are left out: {folder.root / LABELLED_LIST} lists the others")
        listed = [f"--data_root={root}", f"--data_lst={folder.root / LABELLED_LIST}"]
        commands = [["prepare", "check", *listed, *more, *decoding], ["train", *listed, *more, *decoding]]
    else:
        commands = [["prepare", "check", *folders, *more, *decoding], ["prepare", "lists", *folders]]
    print("next:")
    for module, *arguments in commands:
        print(f"  python -m deeplab_fast.{module} {shlex.join(arguments)}")
