"""MindRecord, version 3.0, the record files of the MindSpore recipe, read without MindSpore.

A set is ``NAME0 ... NAMEn-1`` (one file: ``NAME``); each file's header lists them all, so that opening one opens all.
A file is a header and pages of fixed size: blob pages with the image's and the label's bytes, raw pages with the rows'
other fields. ``NAME.db`` (SQLite) beside a file repeats where its rows lie.
"""

from .header import Header, is_mindrecord, read_header
from .rows import Row, rows_of
from .source import MindRecordSource

__all__ = ["Header", "MindRecordSource", "Row", "is_mindrecord", "read_header", "rows_of"]
