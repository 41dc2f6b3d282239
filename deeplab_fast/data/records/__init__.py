"""Sharded records: tar files in WebDataset's convention, reached by offset through an index.

A set named ``voc`` in a folder is::

    voc-00000.tar ...   KEY.jpg, KEY.png for each sample (a PNG image is KEY.img.png)
    voc-00000.idx ...   JSON: where each sample's bytes lie in the shard and their checksums, the shard's SHA-256, and
                        which part of the set it is
    dataset.json        JSON: classes, ignore label, counts and checksums of every set in the folder

``tar`` and the webdataset library read the shards without the index; a shard without one is scanned, and its samples
cannot be verified.
"""

from .description import DATASET_FILE, DATASET_FORMAT, RecordOptions, dataset_entry
from .index import INDEX_FORMAT, Entry, ShardIndex
from .names import set_name
from .read import RecordSource
from .shards import find_shards
from .verify import verify_shards
from .write import check_sample, write_records

__all__ = [
    "DATASET_FILE",
    "DATASET_FORMAT",
    "INDEX_FORMAT",
    "Entry",
    "RecordOptions",
    "RecordSource",
    "ShardIndex",
    "check_sample",
    "dataset_entry",
    "find_shards",
    "set_name",
    "verify_shards",
    "write_records",
]
