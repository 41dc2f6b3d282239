"""Records of either kind: tar shards of ours, or MindRecord files."""

from pathlib import Path

from .mindrecord import MindRecordSource, is_mindrecord
from .records import RecordSource


def open_records(
    data_file: str | Path, option: str = "data_file", verify: str = "auto"
) -> RecordSource | MindRecordSource:
    """Open the samples that ``--data_file`` names: tar shards, or MindRecord files by one of them.

    ``verify`` as of :class:`~deeplab_fast.data.records.RecordSource`.

    Raises:
        UserError: nothing there, or files that are missing, damaged or of something else.
    """
    if is_mindrecord(Path(data_file)):
        return MindRecordSource(data_file, option, verify)
    return RecordSource(data_file, option, verify)
