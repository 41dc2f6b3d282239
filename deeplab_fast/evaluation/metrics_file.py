"""The files that an evaluation leaves: their names, what they were made from, and that none replaces another's."""

import csv
import itertools
import logging
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..config import EvalConfig
from ..config.urls import is_url, public
from ..data.sources import Source, keys_digest
from ..errors import UserError
from ..storage.files import check_folder, make_folder, raise_if_broken, read_json, replace_file, write_json
from ..storage.provenance import as_json, deciding_flags, differences
from .metrics import or_none
from .per_image import ImageCounts
from .protocols import protocol_of

logger = logging.getLogger("deeplab_fast")

Row = tuple[int | str, ...]
IMAGES_FILE = "images_file"  # key of the record


def open_report(config: EvalConfig) -> Path:
    """Make the folder for the metrics file and find out now, not after the evaluation, whether it can be written."""
    folder = Path(config.report) if config.report else Path(config.ckpt_path).parent
    flag = f"--report={folder}" if config.report else f"{folder}, the checkpoint's folder (--report=DIR takes another)"
    check_folder(folder, flag)
    make_folder(folder, flag)
    return folder


def metrics_name(config: EvalConfig) -> str:
    """Name an evaluation after its checkpoint, data and protocol, as in ``metrics-best-voc_val_lst-ms-flip``."""
    data = _stem(public(config.data_file) or config.data_lst)
    parts = protocol_of(config).name_parts + ["boundary"] * config.boundary
    return "-".join(["metrics", _stem(config.ckpt_path), data, *parts])


def _stem(path: str) -> str:
    """Return a file's name without its suffix, nor what a glob has."""
    return re.sub(r"[^\w.+=@-]+", "_", Path(path).resolve().stem).strip("-_")[:80]


def provenance(config: EvalConfig, source: Source, weights: str) -> dict[str, Any]:
    """Return what the figures are made from, but for the labels' content; ``weights`` is their digest."""
    paths = {name: getattr(config, name) for name in ("data_root", "data_lst", "data_file")}
    return as_json(
        {
            "weights": weights,
            "data": {name: _whole_name(path) for name, path in paths.items() if path},
            "samples": keys_digest(source),
            "flags": deciding_flags(config),
        }
    )


def _whole_name(path: str) -> str:
    return public(path) if is_url(path) else str(Path(path).resolve())


def write_metrics(folder: Path, name: str, record: dict[str, Any]) -> Path:
    """Write ``folder/name.json``, with a number where other files have its names already; returns the path.

    The record gets the name of the images' file, which is to be written beside it.

    Raises:
        UserError: it cannot be written.
    """
    for n in itertools.count(1):
        path = folder / f"{name}{'' if n == 1 else f'-{n}'}.json"
        record[IMAGES_FILE] = images_file(path).name
        why = _why_it_stays(path, record)
        if why is None:
            break
        logger.info("%s", why)
    write_json(path, record)
    return path


def images_file(path: Path) -> Path:
    """Return where the scores of the images are beside a metrics file."""
    return path.with_name(f"{path.stem}-images.csv")


def _why_it_stays(path: Path, record: dict[str, Any]) -> str | None:
    """Say why a metrics file, or the images' file beside it, is not to be replaced; None where both may be."""
    images = images_file(path)
    before = _content(path)
    made_from = before.get("provenance")
    if os.path.lexists(path) and made_from != record["provenance"]:
        if not isinstance(made_from, dict):
            return f"{path} stays: it is another file"
        return f"{path} stays: this one differs in {differences(record['provenance'], made_from)}"
    if os.path.lexists(images) and before.get(IMAGES_FILE) != images.name:
        return f"{images} stays: it is another file"
    return None


def _content(path: Path) -> dict[str, Any]:
    """Return what a metrics file holds; nothing of another kind of file, or where there is none.

    Raises:
        UserError: the system cannot read it.
    """
    try:
        content = read_json(path)
    except OSError as error:
        raise_if_broken(path, error)
        return {}
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def image_rows(images: ImageCounts, source: Source) -> Iterator[Row]:
    """Yield the scores of each image: its number and name in the data, mIoU, accuracy, labelled pixels."""
    columns = (images.samples, images.miou, images.pixel_accuracy, images.labelled)
    for sample, *figures, labelled in zip(*(column.tolist() for column in columns), strict=True):
        yield sample, source.key(sample), *(_six_digits(figure) for figure in figures), labelled


def _six_digits(value: float) -> str:
    return "" if or_none(value) is None else f"{value:.6g}"


def write_images(path: Path, rows: Iterable[Row]) -> None:
    """Write the rows of :func:`image_rows` as CSV.

    Raises:
        UserError: it cannot be written.
    """
    with replace_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("sample", "image", "miou", "pixel_accuracy", "labelled_pixels"))
        table.writerows(rows)


def deliver(table: str, folder: Path, name: str, record: dict[str, Any], rows: Iterable[Row]) -> Path:
    """Print the table, then write the metrics file and the images': where one fails, those before are there.

    Returns:
        the metrics file.

    Raises:
        UserError: a file cannot be written; says that the figures are printed.
    """
    printed = False
    try:
        print(table, flush=True)
        printed = True
    finally:
        try:
            path = write_metrics(folder, name, record)
            write_images(images_file(path), rows)
        except UserError as error:
            raise UserError(f"{error}{'; the figures are printed above' if printed else ''}") from None
    print(f"metrics {path}")
    return path
