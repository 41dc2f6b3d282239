"""Records: a shard, its index and its set's description.

``BYTES`` in the index or the description stands for the shard's size. Samples are opened, verified, read and decoded. A
range that the native loader cannot be given is a finding.
"""

import contextlib
import io
import json
import tarfile
import zlib
from pathlib import Path
from random import Random

from deeplab_fast.data import records
from deeplab_fast.data.pairs import decode_pair
from deeplab_fast.data.sources import keys_digest
from deeplab_fast.errors import UserError
from tests.fuzz.image_seeds import png
from tests.fuzz.mutation import mutate_json

from .parts import join, split
from .target import DECODING, MutateBytes, Target

SAMPLES = 8
BLOCK = 512
INT64_MAX = 2**63 - 1


def mend_tar(shard: bytes) -> bytes:
    """The checksum of each block that looks like a header is made right."""
    blocks = bytearray(shard)
    for at in range(0, len(blocks) - BLOCK + 1, BLOCK):
        if blocks[at + 257 : at + 262] == b"ustar":
            blocks[at + 148 : at + 156] = b" " * 8
            blocks[at + 148 : at + 156] = b"%06o\0 " % sum(blocks[at : at + BLOCK])
    return bytes(blocks)


def with_size(shard: bytes, block: int, size: int) -> bytes:
    """Give the header in a block another size, as a number to the base 256: one below 0, or of any length."""
    at = block * BLOCK + 124
    first = b"\xff" if size < 0 else b"\x80"
    return mend_tar(shard[:at] + first + size.to_bytes(11, "big", signed=True) + shard[at + 12 :])


def mutate_field(shard: bytes, generator: Random, mutate_bytes: MutateBytes) -> bytes:
    """A few bytes of one header field: name, mode, size, type, link, version, device, prefix."""
    blocks = [at for at in range(0, len(shard), BLOCK) if shard[at + 257 : at + 262] == b"ustar"]
    if not blocks:
        return shard
    at = generator.choice(blocks)
    begin, end = generator.choice([(0, 100), (124, 136), (156, 157), (157, 257), (329, 345), (345, 500), (512, 700)])
    field = mutate_bytes(shard[at + begin : at + end], end - begin)
    return shard[: at + begin] + field.ljust(end - begin, b"\0") + shard[at + end :]


def mutate(data: bytes, generator: Random, mutate_bytes: MutateBytes, most: int) -> bytes:
    kind = generator.randrange(8)
    if kind == 0:
        return mutate_bytes(data, most)
    index, dataset, shard = split(data, 3)
    if kind < 3:
        index = mutate_json(index, generator, b"BYTES") or mutate_bytes(index, max(len(index), 64))
    elif kind == 3:
        dataset = mutate_json(dataset, generator, b"BYTES") or mutate_bytes(dataset, max(len(dataset), 64))
    elif kind < 6:
        shard = mend_tar(mutate_field(shard, generator, mutate_bytes))
    else:
        shard = mend_tar(mutate_bytes(shard, max(len(shard), BLOCK)))
    if generator.randrange(16) == 0:
        index = b""
    return join(index, dataset, shard)[:most]


# ---------------------------------------------------------------- reading


def check_places(source: records.RecordSource, index: int) -> None:
    """Byte ranges go to the native loader as int64."""
    for part in source.byte_ranges(index):
        if not all(type(value) is int and 0 <= value <= INT64_MAX for value in part[:3]):
            raise AssertionError(f"{part} is no range of a file")
        if type(part.checksum) is not int or not -1 <= part.checksum < 1 << 32:
            raise AssertionError(f"{part} has a checksum that is none")


def read(data: bytes, folder: Path) -> None:
    index, dataset, shard = split(data, 3)
    files = {"s-00000.tar": shard, "s-00000.idx": index, "dataset.json": dataset}
    for name, content in files.items():
        if content or content is shard:
            (folder / name).write_bytes(content if content is shard else content.replace(b"BYTES", b"%d" % len(shard)))
    source = records.RecordSource(folder / "s.tar")
    keys_digest(source)
    records.dataset_entry(source.shards)
    " ".join(records.verify_shards(source)).encode()
    for i in range(min(len(source), SAMPLES)):
        check_places(source, i)
        " ".join(source.where(i)).encode()
        with contextlib.suppress(UserError):  # of this sample; the next one may be whole
            decode_pair(source.read(i), DECODING)


# ---------------------------------------------------------------- seeds


def shard_of(files, tar_format=tarfile.GNU_FORMAT):
    """A tar file and the offsets of its files' bytes."""
    buffer, offsets = io.BytesIO(), {}
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
            offsets[name] = tar.offset - -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    data = buffer.getvalue()
    return data[: tar.offset + 2 * tarfile.BLOCKSIZE], offsets


def index_of(files, offsets, checksums=True, **change):
    """The index of a shard; without checksums, of the first format."""
    keys = [name.removesuffix(".jpg") for name in files if name.endswith(".jpg")]
    samples = [
        {
            "key": key,
            "image_offset": offsets[f"{key}.jpg"],
            "image_size": len(files[f"{key}.jpg"]),
            "label_offset": offsets[f"{key}.png"],
            "label_size": len(files[f"{key}.png"]),
        }
        for key in keys
    ]
    index = {"format": "deeplab_fast.index/1", "bytes": "BYTES", "sha256": "", "source": "", "class_pixels": [1, 2]}
    if checksums:
        part = {"set": "s", "shard": 0, "shards": 1, "samples": len(samples)}
        index |= {"format": "deeplab_fast.index/2", "part": part}
        for sample in samples:
            sample["image_crc32"] = zlib.crc32(files[f"{sample['key']}.jpg"])
            sample["label_crc32"] = zlib.crc32(files[f"{sample['key']}.png"])
    return json.dumps({**index, "samples": samples, **change}).replace('"BYTES"', "BYTES").encode()


def dataset_of(**change):
    shard = {"file": "s-00000.tar", "samples": 1, "bytes": "BYTES", "sha256": ""}
    entry = {"classes": ["a", "b"], "num_classes": 2, "ignore_label": 255, "samples": 1, "shards": [shard]}
    description = {"format": "deeplab_fast.dataset/1", "sets": {"s": {**entry, **change}}}
    return json.dumps(description).replace('"BYTES"', "BYTES").encode()


def container(shard, index=b"", dataset=b""):
    return join(index, dataset, shard)


def seeds():
    label = png(0, 1, size=(2, 2))
    image = png(2, 8, size=(2, 2))
    files = {"a.jpg": image, "a.png": label}
    shard, offsets = shard_of(files)
    yield "index", container(shard, index_of(files, offsets))
    yield "index-1", container(shard, index_of(files, offsets, checksums=False))
    yield "part", container(shard, index_of(files, offsets, part={"set": "s", "shard": 1, "shards": 3, "samples": 7}))
    yield "index-dataset", container(shard, index_of(files, offsets), dataset_of())
    yield "no-index", container(shard)
    yield "no-sample", container(shard, index_of({}, offsets))
    yield "no-shards", container(shard, b"", dataset_of(shards=[]))
    for name, tar_format in (("ustar", tarfile.USTAR_FORMAT), ("pax", tarfile.PAX_FORMAT), ("gnu", tarfile.GNU_FORMAT)):
        long = "d" * 60 + "/" + "n" * 60
        yield f"long-{name}", container(shard_of({f"{long}.jpg": b"", f"{long}.png": b""}, tar_format)[0])
        accent = "\u00e9" if tar_format == tarfile.PAX_FORMAT else "e"
        yield f"folder-{name}", container(shard_of({f"{accent}/a.img.png": b"", f"{accent}/a.png": b""}, tar_format)[0])
    yield "loop", container(with_size(shard_of({"a.txt": b"", "b.txt": b""})[0], 1, -512))
    yield "lonely", container(shard_of({"a.jpg": b""})[0])


TARGET = Target("records", read, seeds, mutate, cpu_seconds=4, megabytes=64)
