"""Records of every kind: tar shards, here or elsewhere, or MindRecord files."""

from pathlib import Path

from .mindrecord import MindRecordSource, is_mindrecord
from .records import RecordSource
from .remote import Records, RemoteRecordSource, RemoteSet


def open_records(
    data_file: Path | Records, option: str = "data_file", verify: str = "auto"
) -> RecordSource | MindRecordSource:
    """Open the samples that ``--data_file`` names: tar shards, or MindRecord files by one of them.

    ``data_file``: a path, or what :func:`~deeplab_fast.data.remote.find_records` makes of a URL.

    ``verify`` as of :class:`~deeplab_fast.data.records.RecordSource`.

    Raises:
        UserError: nothing there, or files that are missing, damaged or of something else.
    """
    if isinstance(data_file, RemoteSet):
        return RemoteRecordSource(data_file, verify)
    if is_mindrecord(Path(data_file)):
        return MindRecordSource(data_file, option, verify)
    return RecordSource(data_file, option, verify)
