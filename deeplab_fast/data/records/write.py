"""Samples packed into shards."""

import glob
import hashlib
import io
import json
import logging
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
from tqdm import tqdm

from deeplab_fast.errors import UserError
from deeplab_fast.ops import decode_image, encode_png, exif_orientation, pillow_format
from deeplab_fast.storage.files import replace_file, writing
from deeplab_fast.storage.locks import lock_file

from ..pairs import check_values, decode_pair
from ..philox import SHUFFLE, permutation
from ..sources import Sample, Source
from .description import DATASET_FILE, Listing, RecordOptions, describe
from .index import Entry, Part, ShardIndex, UnreadableIndex, index_path, is_index, read_index, write_index
from .names import number_of, set_name, shard_path
from .verify import checksums, find_damage, sha256_of

logger = logging.getLogger("deeplab_fast")


def write_records(source: Source, dst_path: str | Path, options: RecordOptions) -> list[Path]:
    """Write ``source`` as shards and return their paths.

    Each shard appears under its name only when it is complete and on the disk; run again, after an interruption or
    later, those that are as they should be, to the bit, are kept.

    Raises:
        UserError: a label's size differs from its image's, a label value is out of range, a file
            cannot be decoded, the folder cannot be written, or holds a shard that is not ours; names the file. Or
            another program is writing the set.
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
    with lock_file(dst.with_suffix(".lock"), f"--dst_path={dst}"):
        return _write(source, dst, options)


def _write(source: Source, dst: Path, options: RecordOptions) -> list[Path]:
    paths = [shard_path(dst, number) for number in range(options.num_shards)]
    _refuse_others(dst, paths)
    order = permutation(options.seed, 0, len(source), SHUFFLE) if options.shuffle else np.arange(len(source))
    chosen = np.array_split(order, options.num_shards)
    indexes = []
    converted: Counter[str] = Counter()
    with tqdm(total=len(source), desc="records", unit="image", disable=None) as progress:
        for number, (path, samples) in enumerate(zip(paths, chosen, strict=True)):
            part = Part(dst.stem, number, options.num_shards, len(source))
            with writing(path):
                indexes.append(_write_shard(source, samples.tolist(), path, part, options, progress, converted))
    with writing(dst.with_name(DATASET_FILE)):
        describe(dst, paths, indexes, options)
    if converted:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(converted.items()))
        logger.info("%s: stored as PNG, which keeps the pixels: images of %s", dst, kinds)
    _mention_left_over(dst, paths)
    return paths


def _refuse_others(dst: Path, paths: list[Path]) -> None:
    """Refuse to write over a shard that neither has our index nor is described: another tool's, or only copy."""
    listed = set(Listing(dst).paths)
    for path in paths:
        for there in (path, index_path(path)):
            if there.exists() and not is_index(index_path(path)) and path not in listed:
                raise UserError(
                    f"{there}: is there already, and not written by prepare records; move it away, or choose another"
                    " --dst_path"
                )


def _mention_left_over(dst: Path, paths: list[Path]) -> None:
    for path in sorted(set(dst.parent.glob(f"{glob.escape(dst.stem)}-*.tar")) - set(paths)):
        if set_name(path) == dst.stem and number_of(path) is not None:
            logger.warning("%s: not of this set, left over from an earlier one? It is not used", path)


def _write_shard(
    source: Source,
    samples: list[int],
    path: Path,
    part: Part,
    options: RecordOptions,
    progress: tqdm,
    converted: Counter[str],
) -> ShardIndex:
    kept = _kept(path, _digest_of((source.read(i) for i in samples), options))
    if kept is not None:
        index = replace(kept, part=part, samples=checksums(path, kept.samples))
        if index != kept:
            write_index(path, index)
        progress.update(len(samples))
        return index
    with replace_file(path) as partial:
        with partial.open("wb") as file:
            index = replace(_pack(source, samples, file, options, progress, converted), part=part)
        index = replace(index, bytes=partial.stat().st_size, sha256=sha256_of(partial))
        write_index(path, index)  # first: a shard without an index would not be known as ours
    return index


def _kept(path: Path, digest: str) -> ShardIndex | None:
    """Return the index of a shard that need not be written again; says why one that is there must be."""
    try:
        index = read_index(path)
        if index is None:
            return None
        damage = find_damage(path, index) if index.source == digest else "of other samples or options"
    except FileNotFoundError:
        return None
    except UnreadableIndex as error:
        damage = f"{index_path(path).name}: {error}"
    if damage:
        logger.warning("%s: %s; written again", path, damage)
        return None
    return index


def _pack(
    source: Source,
    samples: list[int],
    file: IO[bytes],
    options: RecordOptions,
    progress: tqdm,
    converted: Counter[str],
) -> ShardIndex:
    """Write a shard's samples; the index lacks what is known of the whole file only."""
    pixels = np.zeros(256, np.int64)
    entries = []
    digest = _Digest(options)  # of what was read to write this: a file may have changed since it was first read
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for sample in (source.read(i) for i in samples):
            digest.add(sample)
            pixels += check_sample(sample, options)
            stored = as_stored(sample, options)
            if stored is not sample.image:
                converted[pillow_format(sample.image)] += 1
            is_jpeg = stored[:2] == b"\xff\xd8"
            image = _add(tar, f"{sample.key}.{'jpg' if is_jpeg else 'img.png'}", stored)
            label = _add(tar, f"{sample.key}.png", sample.label)
            entries.append(Entry(sample.key, *image, *label, zlib.crc32(stored), zlib.crc32(sample.label)))
            progress.update()
    return ShardIndex(0, "", digest.text(), pixels.tolist(), samples=entries)


class _Digest:
    """A digest of encoded samples and of the options: cheap beside decoding, and never fooled by times."""

    def __init__(self, options: RecordOptions) -> None:
        unusual = [] if options.decoding.apply_exif else ["EXIF orientation ignored"]
        self._sha = hashlib.sha256(json.dumps([options.num_classes, options.ignore_label, *unusual]).encode())

    def add(self, sample: Sample) -> None:
        for part in (sample.key.encode(), sample.image, sample.label):
            self._sha.update(hashlib.sha256(part).digest())

    def text(self) -> str:
        return self._sha.hexdigest()


def _digest_of(samples: Iterator[Sample], options: RecordOptions) -> str:
    digest = _Digest(options)
    for sample in samples:
        digest.add(sample)
    return digest.text()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> tuple[int, int]:
    info = tarfile.TarInfo(name)  # no times or owners: the same input gives the same shard
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
    padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return tar.offset - padded, len(data)


def as_stored(sample: Sample, options: RecordOptions) -> bytes:
    """Return an image's bytes as a shard holds them: JPEG and PNG as they are, others as PNG, turned by EXIF as before.

    So native threads read every shard, and so do earlier versions.
    """
    if not pillow_format(sample.image):
        return sample.image
    plain = options.decoding._replace(apply_exif=False)
    return encode_png(decode_image(sample.image, sample.image_where, plain), exif_orientation(sample.image))


def check_sample(sample: Sample, options: RecordOptions) -> np.ndarray:
    """Check a sample, and count the pixels of each label value: int64 ``[256]``.

    Raises:
        UserError: sizes differ or a value is neither a class nor the ignore label.
    """
    _, label = decode_pair(sample, options.decoding)
    check_values(label, sample.label_where, options.num_classes, options.ignore_label)
    return np.bincount(label.ravel(), minlength=256)
