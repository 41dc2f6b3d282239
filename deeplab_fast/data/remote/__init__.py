"""Records that lie elsewhere: shards named by URL, which come into a cache on this host's disk while training goes on.

The cache has a folder for each version of a set: its description, its indexes, and the shards that have come so far.
"""

from .cache import RecordCache
from .sets import Records, RemoteSet, find_records
from .source import RemoteRecordSource, label_values

__all__ = ["RecordCache", "Records", "RemoteRecordSource", "RemoteSet", "find_records", "label_values"]
