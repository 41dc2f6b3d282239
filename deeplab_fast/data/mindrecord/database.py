"""The SQLite file beside a MindRecord file, which repeats where its rows lie: a check that both say the same."""

import sqlite3
from pathlib import Path

from .rows import Row

_PLACES = (
    "SELECT PAGE_ID_BLOB, PAGE_OFFSET_BLOB, PAGE_OFFSET_BLOB_END, PAGE_ID_RAW, PAGE_OFFSET_RAW, PAGE_OFFSET_RAW_END"
    " FROM INDEXES ORDER BY ROW_ID"
)
# What a query may take, as the file says itself what it has to do: a view can be endless, a value of any length.
_LONGEST = 1 << 16  # bytes of a row
_STEPS, _STEPS_PER_ROW = 20_000, 200  # of SQLite's machine; a row takes ten


def database_path(file: Path) -> Path:
    """Return the name of the SQLite file beside a MindRecord file."""
    return file.with_name(f"{file.name}.db")


def disagreement(file: Path, rows: list[Row]) -> str:
    """Return how the SQLite file contradicts the rows found in ``file``; nothing where it does not, or is not there."""
    path = database_path(file)
    if not path.is_file():
        return ""
    try:
        places = _places(path, len(rows))
    except (sqlite3.Error, ValueError, OverflowError) as error:  # ValueError: names that are not UTF-8
        return f"{path} cannot be read ({error})"
    if len(places) != len(rows):
        return f"{path} has {len(places)} rows, the file itself {len(rows)}"
    for number, (place, row) in enumerate(zip(places, rows, strict=True)):
        if place != (*row.blob_at, *row.raw_at):
            return f"{path} says that row {number} lies elsewhere than where it was found"
    return ""


def _places(path: Path, rows: int) -> list[tuple[int, ...]]:
    """Return what the file says of each row; raises what SQLite raises, also where it takes too long."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
        connection.set_progress_handler(lambda: True, _STEPS + _STEPS_PER_ROW * rows)
        return connection.execute(_PLACES).fetchall()
    finally:
        connection.close()
