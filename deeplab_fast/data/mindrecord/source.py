"""Samples of MindRecord files: images and labels of the MindSpore recipe's rows."""

import bisect
import logging
from pathlib import Path

import numpy as np

from deeplab_fast.errors import UserError

from ..lists import is_text
from ..ranges import RangeSource, Stamp
from ..sources import ByteRange, unique_keys
from .database import database_path, disagreement
from .header import Header, read_header
from .rows import Row, rows_of

logger = logging.getLogger("deeplab_fast")

NAME, IMAGE, LABEL = "file_name", "data", "label"  # of the recipe's rows


class MindRecordSource(RangeSource):
    """Samples of a set of MindRecord files, in the order of the files and of their rows; one file names them all.

    ``verify``: ``always`` refuses them, as they have no checksums of samples.
    """

    def __init__(self, data_file: str | Path, option: str = "data_file", verify: str = "auto") -> None:
        first = Path(data_file)
        if verify == "always":
            raise UserError(f"--verify=always: {first}: MindRecord has no checksums; prepare records makes them")
        shards = _shards_of(first)
        headers = [read_header(path) for path in shards]
        _check_set(headers, first)
        super().__init__(shards, [Stamp.of(path.stat()) for path in shards])
        self._rows = [_samples_of(header) for header in headers]
        self._ends = np.cumsum([len(rows) for rows in self._rows]).tolist()
        self._names = [row.fields[NAME] for rows in self._rows for row in rows]
        self._keys = unique_keys(self._names)
        if not len(self):
            raise UserError(f"--{option}={data_file}: holds no sample")
        logger.info(
            "%s: %d samples in %d MindRecord file%s", first, len(self), len(shards), "" if len(shards) == 1 else "s"
        )

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _locate(self, index: int) -> tuple[int, Row]:
        shard = bisect.bisect_right(self._ends, index)
        return shard, self._rows[shard][index - (self._ends[shard - 1] if shard else 0)]

    def key(self, index: int) -> str:
        return self._keys[index]

    def where(self, index: int) -> tuple[str, str]:
        """Return the words that name image and label in errors."""
        where = f"{self.shards[self._locate(index)[0]]}, row {self._names[index]}"
        return f"{where}, image", f"{where}, label"

    def byte_ranges(self, index: int) -> tuple[ByteRange, ByteRange]:
        """Return where image and label lie."""
        shard, row = self._locate(index)
        return ByteRange(shard, *row.blobs[IMAGE]), ByteRange(shard, *row.blobs[LABEL])


def _shards_of(file: Path) -> list[Path]:
    """Return all files of a set in order, given one of them."""
    header = read_header(file)
    if len(header.shards) == 1:
        return [file]  # it may have another name by now
    shards = [file.with_name(name) for name in header.shards]
    if shards[header.number].name != file.name:
        raise UserError(
            f"{file}: its header calls it {shards[header.number].name}, one of {len(shards)}; expected these names"
        )
    for number, path in enumerate(shards):
        if not path.is_file():
            raise UserError(f"{path}: missing; {file} says that it is file {number} of {len(shards)} of its set")
    return shards


def _check_set(headers: list[Header], first: Path) -> None:
    """Refuse files that are not all of one writing of a set.

    Raises:
        UserError: names the file that does not belong to the others, or fields that are no image and label.
    """
    wanted = headers[0]
    set_of_all = wanted.shards, wanted.fields, wanted.blob_fields
    for number, header in enumerate(headers):
        if header.number != number or (header.shards, header.fields, header.blob_fields) != set_of_all:
            raise UserError(f"{header.path}: not file {number} of the set of {first}; left of another writing?")
    if sorted(wanted.blob_fields) != sorted((IMAGE, LABEL)) or NAME not in wanted.fields:
        raise UserError(
            f"{first}: has the fields {', '.join(wanted.fields)}, of these bytes: {', '.join(wanted.blob_fields)};"
            f" expected, as the recipe writes them, {NAME} and the bytes {IMAGE} and {LABEL}"
        )


def _samples_of(header: Header) -> list[Row]:
    """Return the rows of a file, compared with the SQLite file beside it.

    Raises:
        UserError: they contradict each other, or a row has no name.
    """
    rows = rows_of(header)
    if wrong := disagreement(header.path, rows):
        raise UserError(f"{header.path}: {wrong}; remove {database_path(header.path).name} to read the file without it")
    for number, row in enumerate(rows):
        name = row.fields.get(NAME)
        if not isinstance(name, str) or not name or not is_text(name):
            raise UserError(f"{header.path}: row {number} has no {NAME}; expected the image's name")
    return rows
