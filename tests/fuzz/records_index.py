"""Fuzzes the reading of records, with atheris: ``python records_index.py [FLAG ...] [CORPUS ...]``.

An input is a shard, its index and its set's description (see ``container`` in make_seeds.py); ``BYTES`` in the
index or the description stands for the shard's size. Samples are opened, verified, read and decoded. Anything that
comes out other than a :class:`UserError` is a finding, and so is a range that the native loader cannot be given.
"""

import contextlib
import json
import logging
import random
import struct
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["deeplab_fast.data.records", "tarfile"]):
    from deeplab_fast.data import records
from deeplab_fast.data.pairs import decode_pair
from deeplab_fast.data.sources import keys_digest
from deeplab_fast.errors import UserError

SAMPLES = 8
BLOCK = 512
INT64_MAX = 2**63 - 1
ODD = [None, True, -1, 0, 1, 511, 512, 1.5, 1e400, 2**31, 2**63, 10**30, "", "a", "\ud800", "..", "a\0", [], {}, [[]]]


def split(data):
    """Index, description and shard."""
    if len(data) < 4:
        return b"", b"", data
    index, dataset = struct.unpack_from("<HH", data)
    at, body = index + dataset, data[4:]
    return body[:index], body[index:at], body[at:]


def join(index, dataset, shard):
    return struct.pack("<HH", min(len(index), 65535), min(len(dataset), 65535)) + index + dataset + shard


# ---------------------------------------------------------------- mutation


def places_in(node):
    """Every (container, key) below a JSON value."""
    for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield node, key
        yield from places_in(node[key])


def mutate_json(text, generator):
    """One value is replaced, removed or doubled; text that is not JSON gets a few other bytes."""
    try:
        tree = json.loads(text.replace(b"BYTES", b'"BYTES"'))
        container, key = generator.choice(list(places_in(tree)))
    except (ValueError, IndexError, RecursionError):
        return atheris.Mutate(text, max(len(text), 64))
    kind = generator.randrange(8)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, list):
        container.insert(key, container[key])
    elif kind == 2 and type(container[key]) is int:
        container[key] += generator.choice([-512, -1, 1, 512, 2**40])
    else:
        container[key] = generator.choice(ODD)
    return json.dumps(tree).replace('"BYTES"', "BYTES").encode()


def mend_tar(shard):
    """The checksum of each block that looks like a header is made right."""
    blocks = bytearray(shard)
    for at in range(0, len(blocks) - BLOCK + 1, BLOCK):
        if blocks[at + 257 : at + 262] == b"ustar":
            blocks[at + 148 : at + 156] = b" " * 8
            blocks[at + 148 : at + 156] = b"%06o\0 " % sum(blocks[at : at + BLOCK])
    return bytes(blocks)


def mutate_field(shard, generator):
    """A few bytes of one header field: name, mode, size, type, link, version, device, prefix."""
    blocks = [at for at in range(0, len(shard), BLOCK) if shard[at + 257 : at + 262] == b"ustar"]
    if not blocks:
        return shard
    at = generator.choice(blocks)
    begin, end = generator.choice([(0, 100), (124, 136), (156, 157), (157, 257), (329, 345), (345, 500), (512, 700)])
    field = atheris.Mutate(shard[at + begin : at + end], end - begin)
    return shard[: at + begin] + field.ljust(end - begin, b"\0") + shard[at + end :]


def mutate(data, max_size, seed):
    generator = random.Random(seed)
    kind = generator.randrange(8)
    if kind == 0:
        return atheris.Mutate(data, max_size)
    index, dataset, shard = split(data)
    if kind < 3:
        index = mutate_json(index, generator)
    elif kind == 3:
        dataset = mutate_json(dataset, generator)
    elif kind < 6:
        shard = mend_tar(mutate_field(shard, generator))
    else:
        shard = mend_tar(atheris.Mutate(shard, max(len(shard), BLOCK)))
    if generator.randrange(16) == 0:
        index = b""
    return join(index, dataset, shard)[:max_size]


# ---------------------------------------------------------------- the target


def check_places(source, index, name):
    """Byte ranges go to the native loader as int64."""
    for part in source.byte_ranges(index):
        if not all(type(value) is int and 0 <= value <= INT64_MAX for value in part[:3]):
            raise AssertionError(f"{name}: {part} is no range of a file")
        if type(part.checksum) is not int or not -1 <= part.checksum < 1 << 32:
            raise AssertionError(f"{name}: {part} has a checksum that is none")


def read_all(folder):
    source = records.RecordSource(folder / "s.tar")
    keys_digest(source)
    records.dataset_entry(source.shards)
    " ".join(records.verify_shards(source)).encode()
    for i in range(min(len(source), SAMPLES)):
        check_places(source, i, source.key(i))
        " ".join(source.where(i)).encode()
        with contextlib.suppress(UserError):  # of this sample; the next one may be whole
            decode_pair(source.read(i))


def one_input(data):
    index, dataset, shard = split(data)
    for name, content in (
        ("s-00000.tar", shard),
        ("s-00000.idx", index.replace(b"BYTES", b"%d" % len(shard))),
        ("dataset.json", dataset.replace(b"BYTES", b"%d" % len(shard))),
    ):
        if content or name.endswith(".tar"):
            (FOLDER / name).write_bytes(content)
        else:
            (FOLDER / name).unlink(missing_ok=True)
    try:
        read_all(FOLDER)
    except UserError as error:
        if not str(error):
            raise AssertionError("a refusal without words") from None


if __name__ == "__main__":
    logging.getLogger("deeplab_fast").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        FOLDER = Path(folder)
        atheris.Setup(sys.argv, one_input, custom_mutator=mutate)
        atheris.Fuzz()
