"""Samples of shards, reached by offset."""

import bisect
import mmap
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_fast.errors import UserError

from ..sources import Place, Sample
from .index import Entry, read_index
from .scan import scan
from .shards import find_shards


class RecordSource:
    """Samples of shards, in the order of the shards; bytes come from a memory map opened on first use."""

    mapped = True

    def __init__(self, data_file: str | Path, option: str = "data_file") -> None:
        self.shards = find_shards(data_file, option)
        self._entries: list[list[Entry]] = []
        for shard in self.shards:
            index = read_index(shard)
            self._entries.append(index.samples if index is not None else scan(shard))
        self._ends = np.cumsum([len(entries) for entries in self._entries]).tolist()
        self._maps: dict[int, mmap.mmap] = {}
        if not len(self):
            raise UserError(f"--{option}={data_file}: holds no sample")

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}

    def _locate(self, index: int) -> tuple[int, Entry]:
        shard = bisect.bisect_right(self._ends, index)
        return shard, self._entries[shard][index - (self._ends[shard - 1] if shard else 0)]

    def key(self, index: int) -> str:
        return self._locate(index)[1].key

    def where(self, index: int) -> tuple[str, str]:
        shard, entry = self._locate(index)
        where = f"{self.shards[shard]}, sample {entry.key}"
        return f"{where}, image", f"{where}, label"

    def files(self) -> list[str]:
        return [str(shard) for shard in self.shards]

    def places(self, index: int) -> tuple[Place, Place]:
        shard, entry = self._locate(index)
        image = Place(shard, entry.image_offset, entry.image_size)
        return image, Place(shard, entry.label_offset, entry.label_size)

    def read(self, index: int) -> Sample:
        shard, entry = self._locate(index)
        if shard not in self._maps:
            try:
                with self.shards[shard].open("rb") as file:
                    self._maps[shard] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:  # ValueError: an empty file
                raise UserError(f"{self.shards[shard]}: {error}") from None
        data = self._maps[shard]
        image = data[entry.image_offset : entry.image_offset + entry.image_size]
        label = data[entry.label_offset : entry.label_offset + entry.label_size]
        return Sample(entry.key, image, label, *self.where(index))
