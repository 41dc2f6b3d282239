"""Samples packed into shards."""

import hashlib
import io
import json
import os
import tarfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from deeplab_fast.errors import UserError

from ..pairs import check_values, decode_pair
from ..philox import SHUFFLE, permutation
from ..sources import Sample, Source
from .description import RecordOptions, describe
from .index import INDEX_FORMAT, Entry, ShardIndex, index_path, read_index, write_json
from .shards import shard_path


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
    describe(dst, paths, indexes, options)
    return paths


def _write_shard(source: Source, samples: list[int], path: Path, options: RecordOptions, progress: tqdm) -> ShardIndex:
    samples_read = (source.read(i) for i in samples)
    digest = _digest_of(source, samples, options)
    kept = read_index(path)
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
    index_path(path).unlink(missing_ok=True)
    os.replace(partial, path)
    write_json(index_path(path), {"format": INDEX_FORMAT, **asdict(index)})
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
