"""Samples of shards that lie elsewhere: each can be read once its shard is in the cache."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplab_fast.errors import UserError
from deeplab_fast.signals import stop_is_asked
from deeplab_fast.storage.arrivals import Arrivals, Coming
from deeplab_fast.storage.remote import RemoteFile

from ..ranges import Stamp
from ..records import RecordSource, ShardIndex
from ..records.description import Listing
from ..records.names import set_name
from ..records.read import Content, open_shard
from ..records.shards import Found
from ..sources import Source
from .sets import RemoteSet, index_of

logger = logging.getLogger("deeplab_fast")

_COMING = -1  # instead of a time: the shard is not here yet


class RemoteRecordSource(RecordSource):
    """Samples of a :class:`RemoteSet`; its shards come in the background, those first whose samples are waited for.

    What the samples are follows from the indexes alone. A shard without one is fetched and scanned at the start.
    """

    def __init__(self, remote: RemoteSet, verify: str = "auto") -> None:
        """``verify``: as of :class:`RecordSource`.

        Raises:
            UserError: the shards do not fit in the cache, one without an index does not come, or they do not belong
                together.
        """
        self.remote = remote
        indexes = [index_of(path) for path in remote.paths]
        files = _files(remote, indexes)
        for path, file in zip(remote.paths, files, strict=True):
            _drop_other(path, file)
        self._reserve(files)
        self._arrivals = Arrivals([Coming(f, p) for f, p in zip(files, remote.paths, strict=True)], remote.advice())
        self._bring_unknown([number for number, index in enumerate(indexes) if index is None])
        if any(index is None for index in indexes):
            self._reserve(files)
        contents = [_content(path, index) for path, index in zip(remote.paths, indexes, strict=True)]
        self._hold(Found(remote.paths, remote.whole), contents, remote.text, verify)

    def _reserve(self, files: Sequence[RemoteFile]) -> None:
        sizes = {file.name: file.size for file in files if file.size is not None}
        known = {path.name: path.stat().st_size for path in self.remote.paths if path.exists()}
        self.remote.cache.reserve(self.remote.used, sizes | known, self.remote.text)

    def _bring_unknown(self, numbers: Sequence[int]) -> None:
        missing = [number for number in numbers if not self._arrivals.are_here([number])]
        if missing:
            some = f"{self.remote.paths[missing[0]].name}{f' and {len(missing) - 1} more' * (len(missing) > 1)}"
            logger.info("%s: no index beside %s: fetched whole before anything else", self.remote.text, some)
        self._arrivals.wait(numbers, stop_is_asked)

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("samples that come from elsewhere belong to one process")

    def stamps(self) -> list[tuple[int, int]]:
        """Return nothing: what a shard is shows when it is first opened, which is after it came."""
        return []

    def require(self, indexes: Sequence[int]) -> None:
        """Wait until the shards of these samples are here.

        Raises:
            UserError: one of them cannot be had, or a stop was asked for meanwhile; says why.
        """
        shards = [part.file for index in indexes for part in self.byte_ranges(index)[:1]]
        if not self._arrivals.are_here(shards):
            self._arrivals.wait(list(dict.fromkeys(shards)), stop_is_asked)
        for shard in shards:
            if self._stamps[shard].written_ns == _COMING:
                self._stamps[shard] = Stamp.of(self.shards[shard].stat())

    def expect(self, indexes: Iterable[int]) -> None:
        """Bring the shards in the order in which these samples need them first."""
        self._arrivals.expect(dict.fromkeys(self.byte_ranges(index)[0].file for index in indexes))

    def label_values(self) -> NDArray[np.int64] | None:
        """Return how many pixels have each label value, int64 ``[256]``, where every index says it; else None."""
        counts = [index.class_pixels if index is not None else None for index in self.indexes]
        try:
            pixels = np.array(counts, np.int64)
        except (ValueError, TypeError, OverflowError):
            return None
        return pixels.sum(0) if pixels.shape == (len(counts), 256) else None


def _files(remote: RemoteSet, indexes: Sequence[ShardIndex | None]) -> list[RemoteFile]:
    """Return what is known of each shard, by its index or the set's description."""
    files = []
    for path, index in zip(remote.paths, indexes, strict=True):
        listed = Listing(path.with_name(f"{set_name(path)}.tar")).published(path)
        size = index.bytes if index is not None else listed[0]
        sha256 = index.sha256 if index is not None else listed[1]
        files.append(RemoteFile(path.name, (remote.place.url(path.name),), sha256=sha256, size=size))
    return files


def _drop_other(path: Path, file: RemoteFile) -> None:
    """Remove a shard of the cache that does not have the bytes that are to come."""
    try:
        if path.exists() and file.size is not None and path.stat().st_size != file.size:
            logger.warning("%s: has %s bytes, not %s; fetched again", path, path.stat().st_size, file.size)
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def _content(path: Path, index: ShardIndex | None) -> Content:
    if index is None or path.exists():
        return open_shard(path)
    return Content(index.samples, Stamp(index.bytes, _COMING), index)


def label_values(source: Source) -> NDArray[np.int64] | None:
    """Return the pixels of each label value in a source, int64 ``[256]``, where they are known without its labels."""
    return source.label_values() if isinstance(source, RemoteRecordSource) else None
