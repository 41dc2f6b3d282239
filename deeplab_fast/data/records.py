"""Sharded records: tar files in WebDataset's convention, reached by offset through an index.

A set named ``voc`` in a folder is::

    voc-00000.tar ...   KEY.jpg, KEY.png for each sample (a PNG image is KEY.img.png)
    voc-00000.idx ...   JSON: where each file's bytes lie in the shard, and the shard's checksum
    dataset.json        JSON: classes, ignore label, counts and checksums of every set in the folder

``tar`` and the webdataset library read the shards without the index; a shard without one is scanned.
"""

import bisect
import glob
import hashlib
import io
import json
import mmap
import os
import re
import tarfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from deeplab_fast.errors import UserError

from .pairs import check_values, decode_pair
from .philox import SHUFFLE, permutation
from .sources import Place, Sample, Source

INDEX_FORMAT = "deeplab_fast.index/1"
DATASET_FORMAT = "deeplab_fast.dataset/1"
DATASET_FILE = "dataset.json"


@dataclass(frozen=True)
class Entry:
    """Where one sample's bytes lie in its shard."""

    key: str
    image_offset: int
    image_size: int
    label_offset: int
    label_size: int


@dataclass(frozen=True)
class ShardIndex:
    """The content of one shard. ``class_pixels`` counts the pixels of each label value, 256 entries."""

    bytes: int
    sha256: str
    source: str  # digest of what it was made from; equal means it need not be made again
    class_pixels: list[int]
    samples: list[Entry] = field(default_factory=list)


def shard_path(dst: Path, number: int) -> Path:
    return dst.with_name(f"{dst.stem}-{number:05d}.tar")


# ---------------------------------------------------------------- writing


@dataclass(frozen=True)
class RecordOptions:
    """How a set is written; stored in ``dataset.json``."""

    num_shards: int
    shuffle: bool
    seed: int
    num_classes: int
    ignore_label: int
    classes: tuple[str, ...]


def write_records(source: Source, dst_path: str | Path, options: RecordOptions) -> list[Path]:
    """Write ``source`` as shards and return their paths.

    Each shard appears under its name only when it is complete; run again after an interruption,
    the complete ones are kept.

    Raises:
        UserError: a label's size differs from its image's, a label value is out of range, a file
            cannot be decoded, or the folder cannot be written; names the file.
    """
    dst = Path(dst_path)
    if dst.suffix != ".tar":
        raise UserError(f"--dst_path={dst}: expected a name ending in .tar, such as data/voc.tar")
    if options.num_shards > len(source):
        raise UserError(f"--num_shards={options.num_shards}: expected at most the {len(source)} samples")
    try:
        dst.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--dst_path={dst}: {error.strerror}") from None
    order = permutation(options.seed, 0, len(source), SHUFFLE) if options.shuffle else np.arange(len(source))
    parts = np.array_split(order, options.num_shards)
    indexes, paths = [], []
    with tqdm(total=len(source), desc="records", unit="image", disable=None) as progress:
        for number, part in enumerate(parts):
            path = shard_path(dst, number)
            try:
                indexes.append(_write_shard(source, part.tolist(), path, options, progress))
            except OSError as error:
                raise UserError(f"{path}: cannot be written ({error.strerror})") from None
            paths.append(path)
    _describe(dst, paths, indexes, options)
    return paths


def _write_shard(source: Source, samples: list[int], path: Path, options: RecordOptions, progress: tqdm) -> ShardIndex:
    samples_read = (source.read(i) for i in samples)
    digest = _digest_of(source, samples, options)
    kept = _read_index(path)
    if kept is not None and kept.source == digest:
        progress.update(len(samples))
        return kept
    partial = path.with_suffix(".tar.partial")
    pixels = np.zeros(256, np.int64)
    entries = []
    with tarfile.open(partial, "w", format=tarfile.GNU_FORMAT) as tar:
        for sample in samples_read:
            pixels += check_sample(sample, options.num_classes, options.ignore_label)
            is_jpeg = sample.image[:2] == b"\xff\xd8"
            image = _add(tar, f"{sample.key}.{'jpg' if is_jpeg else 'img.png'}", sample.image)
            label = _add(tar, f"{sample.key}.png", sample.label)
            entries.append(Entry(sample.key, *image, *label))
            progress.update()
    sha = hashlib.sha256()
    with partial.open("rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    index = ShardIndex(partial.stat().st_size, sha.hexdigest(), digest, pixels.tolist(), entries)
    _index_path(path).unlink(missing_ok=True)
    os.replace(partial, path)
    _write_json(_index_path(path), {"format": INDEX_FORMAT, **asdict(index)})
    return index


def _digest_of(source: Source, samples: list[int], options: RecordOptions) -> str:
    """Of the encoded bytes and the options: cheap beside decoding, and never fooled by times."""
    sha = hashlib.sha256(json.dumps([options.num_classes, options.ignore_label]).encode())
    for i in samples:
        sample = source.read(i)
        for part in (sample.key.encode(), sample.image, sample.label):
            sha.update(hashlib.sha256(part).digest())
    return sha.hexdigest()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> tuple[int, int]:
    info = tarfile.TarInfo(name)  # no times or owners: the same input gives the same shard
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
    padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return tar.offset - padded, len(data)


def check_sample(sample: Sample, num_classes: int, ignore_label: int) -> np.ndarray:
    """Pixels of each label value, int64 ``[256]``, of a sample fit for training.

    Raises:
        UserError: sizes differ or a value is neither a class nor the ignore label.
    """
    _, label = decode_pair(sample)
    check_values(label, sample.label_where, num_classes, ignore_label)
    return np.bincount(label.ravel(), minlength=256)


def _describe(dst: Path, paths: list[Path], indexes: list[ShardIndex], options: RecordOptions) -> None:
    file = dst.with_name(DATASET_FILE)
    content: dict[str, Any] = {"format": DATASET_FORMAT, "sets": {}}
    if file.exists():
        content = _read_dataset(file)
    totals = np.sum([index.class_pixels for index in indexes], axis=0)
    content["sets"][dst.stem] = {
        "classes": list(options.classes),
        "num_classes": options.num_classes,
        "ignore_label": options.ignore_label,
        "samples": sum(len(index.samples) for index in indexes),
        "class_pixels": [int(v) for v in totals[: options.num_classes]],
        "ignored_pixels": int(totals[options.ignore_label]),
        "shuffle": options.shuffle,
        "seed": options.seed,
        "shards": [
            {"file": path.name, "samples": len(index.samples), "bytes": index.bytes, "sha256": index.sha256}
            for path, index in zip(paths, indexes, strict=True)
        ],
    }
    _write_json(file, content)


def _write_json(path: Path, content: Any) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(partial, path)


# ---------------------------------------------------------------- reading


def _index_path(shard: Path) -> Path:
    return shard.with_suffix(".idx")


def _read_index(shard: Path) -> ShardIndex | None:
    """The index beside a shard, or None where there is none that fits it."""
    try:
        content = json.loads(_index_path(shard).read_text())
        size = shard.stat().st_size
        if content.pop("format") != INDEX_FORMAT or content["bytes"] != size:
            return None
        content["samples"] = [Entry(**entry) for entry in content["samples"]]
        index = ShardIndex(**content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return index if all(_fits(entry, size) for entry in index.samples) else None


def _fits(entry: Entry, size: int) -> bool:
    """Whether an entry, which may hold anything, names bytes of a shard of this size."""
    places = ((entry.image_offset, entry.image_size), (entry.label_offset, entry.label_size))
    if not isinstance(entry.key, str) or not all(type(value) is int for place in places for value in place):
        return False
    return _is_text(entry.key) and all(0 <= at <= at + count <= size for at, count in places)


def _is_text(name: str) -> bool:
    """False for a name that is not Unicode: no file or message could hold it."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _scan(shard: Path) -> list[Entry]:
    """The entries of a shard that has no index."""
    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                key, _, suffix = name.partition(".")
                key = f"{folder}/{key}" if folder else key
                place = (member.offset_data, member.size)
                if suffix.lower() in ("jpg", "jpeg", "img.png"):
                    images[key] = place
                elif suffix.lower() == "png":
                    labels[key] = place
    except Exception as error:  # tarfile lets several kinds out of broken headers
        raise UserError(f"{shard}: not a readable tar shard ({error})") from None
    for key in images.keys() ^ labels.keys():
        missing = "label (KEY.png)" if key in images else "image (KEY.jpg)"
        raise UserError(f"{shard}: sample {key} has no {missing}")
    entries = [Entry(key, *images[key], *labels[key]) for key in images]
    for entry in entries:
        if not _fits(entry, shard.stat().st_size):
            raise UserError(f"{shard}: sample {entry.key!r}: its name is not UTF-8, or its bytes are not in the shard")
    return entries


def _read_dataset(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
        if content["format"] != DATASET_FORMAT or not isinstance(content["sets"], dict):
            raise ValueError("unknown format")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{file}: not a dataset description ({error}); run prepare records again") from None
    return dict(content)


def find_shards(data_file: str | Path, option: str = "data_file") -> list[Path]:
    """Shards that ``--data_file`` names: the name given to ``--dst_path``, one shard, a glob or a folder.

    Raises:
        UserError: nothing there, or something that is not a shard.
    """
    given = Path(data_file)
    text = f"--{option}={data_file}"
    hint = "make records with 'prepare records', or train from files with --data_root and --data_lst"
    if glob.has_magic(str(data_file)):
        found = sorted(Path(p) for p in glob.glob(str(data_file)))
        if not found:
            raise UserError(f"{text}: no file matches")
    elif given.is_dir():
        stems = {re.sub(r"-\d{5}$", "", p.stem) for p in given.glob("*-[0-9]*.tar")}
        if not stems:
            raise UserError(f"{text}: no tar shard in this folder; {hint}")
        if len(stems) > 1:
            names = ", ".join(f"{given / stem}.tar" for stem in sorted(stems))
            raise UserError(f"{text}: several sets in this folder; name one of {names}")
        found = _shards_of(given / f"{stems.pop()}.tar")
    elif given.is_file():
        found = [given]
    else:
        found = _shards_of(given)
        if not found:
            raise UserError(f"{text}: no such file or set of shards; {hint}")
    for path in found:
        if path.suffix != ".tar":
            raise UserError(f"{text}: {path.name} is not a tar shard; {hint}")
        if not path.is_file():
            raise UserError(f"{path}: missing; {given.parent / DATASET_FILE} lists it. Run prepare records again")
    return found


def _shards_of(name: Path) -> list[Path]:
    """Shards of the set ``D/voc.tar``: those its description lists, else all that match."""
    file = name.with_name(DATASET_FILE)
    if file.is_file():
        entry = _read_dataset(file)["sets"].get(name.stem)
        try:
            if entry is not None:
                return [name.with_name(shard["file"]) for shard in entry["shards"]]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{file}: the shards of {name.stem} are not named; run prepare records again") from None
    return sorted(name.parent.glob(f"{glob.escape(name.stem)}-[0-9]*.tar"))


class RecordSource:
    """Samples of shards, in the order of the shards; bytes come from a memory map opened on first use."""

    mapped = True

    def __init__(self, data_file: str | Path, option: str = "data_file") -> None:
        self.shards = find_shards(data_file, option)
        self._entries: list[list[Entry]] = []
        for shard in self.shards:
            index = _read_index(shard)
            self._entries.append(index.samples if index is not None else _scan(shard))
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


def dataset_entry(shards: Sequence[Path]) -> dict[str, Any] | None:
    """What ``dataset.json`` says of the set that these shards belong to, or None."""
    file = shards[0].with_name(DATASET_FILE)
    if not file.is_file():
        return None
    stem = re.sub(r"-\d{5}$", "", shards[0].stem)
    return _read_dataset(file)["sets"].get(stem)
