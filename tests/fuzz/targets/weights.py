"""Files of weights: safetensors, and what torch.save wrote, whose pickle is mutated behind right checksums."""

import argparse
import hashlib
import io
import json
import pickletools
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import torch
from safetensors.torch import save
from torch._utils import _rebuild_tensor_v2

from deeplab_fast.config import SegmenterConfig
from deeplab_fast.errors import UserError
from deeplab_fast.evaluation.inference import stored_config, stored_names
from deeplab_fast.model.weights import infer_config, read_weights, refuse_other_networks
from deeplab_fast.model.weights.tensors import usable
from deeplab_fast.storage import seal
from deeplab_fast.storage.checkpoint import CheckpointFolder
from tests.fuzz.mutation import EXTREMES, mutate_json

from .target import Target

LENGTH = struct.Struct("<Q")
DIGEST = 64  # hex digits, at the end of a sealed file


def read_as_network(path):
    """What is done with a file of weights before a network is built of it."""
    file = read_weights(path)
    config = SegmenterConfig(**infer_config(file) | stored_config(file, SegmenterConfig))
    stored_names(file, config.num_classes)
    json.dumps(sorted(file.tensors)).encode()
    for key, tensor in list(file.tensors.items())[:8]:
        usable(path, key, tensor)
    refuse_other_networks(file)


# ---------------------------------------------------------------- safetensors


def read_safetensors(data, folder):
    path = folder / "x.safetensors"
    path.write_bytes(data)
    read_as_network(path)


def mutate_safetensors(data, generator, mutate_bytes, most):
    """Most mutations leave a header of the right length."""
    if generator.random() < 0.2 or len(data) < LENGTH.size:
        return mutate_bytes(data, most)
    (length,) = LENGTH.unpack_from(data)
    header, rest = data[8 : 8 + length], data[8 + length :]
    mutated = mutate_json(header, generator) if generator.random() < 0.7 else None
    header = mutated or mutate_bytes(header, len(header) + 64)
    header += b" " * (-len(header) % 8)
    return (LENGTH.pack(len(header)) + header + rest)[:most]


TENSORS = {
    "backbone.conv1.weight": torch.zeros(1, 3, 1, 1),
    "classifier.conv2.weight": torch.ones(2, 1, 1, 1),
    "aspp.bn1.running_var": torch.ones(1),
}


def safetensors_seeds():
    facts = {"format": "pt", "deeplab_fast": "deeplab_fast.weights/2", "names": '["a", "b"]'}
    facts |= {"config": json.dumps({"num_classes": 2, "crop_size": 65, "image_mean": [1.0, 2.0, 3.0]})}
    yield "ours", save(TENSORS, facts)
    yield "bare", save({"module.conv1.weight": torch.zeros(1, dtype=torch.float16), "x": torch.zeros(0, 3)})
    kinds = (torch.bool, torch.int8, torch.bfloat16, torch.float64, torch.int64, torch.float8_e4m3fn, torch.complex64)
    yield "kinds", save({str(kind): torch.zeros(2, dtype=kind) for kind in kinds})
    yield "nested", save(TENSORS, {**facts, "config": "[" * 3000})


# ---------------------------------------------------------------- torch.save

GLOBALS = (
    *("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor", "torch._utils _rebuild_parameter"),
    *("torch._utils _rebuild_sparse_tensor", "torch._utils _rebuild_meta_tensor_no_storage", "torch Size"),
    *("torch._utils _rebuild_qtensor", "torch._utils _rebuild_wrapper_subclass", "torch Tensor", "torch device"),
    *("torch FloatStorage", "torch DoubleStorage", "torch.storage UntypedStorage", "torch float64", "torch int8"),
    *("collections OrderedDict", "collections Counter", "_codecs encode", "argparse Namespace", "os system"),
    *("numpy.core.multiarray scalar", "numpy._core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"),
    *("pathlib PosixPath", "builtins bytearray", "torch.nn.parameter Parameter", "torch.serialization _get_layout"),
)  # fmt: skip
OPCODES = b"0123\x85\x86\x87)t(]}lduaesbR\x81NI\x88\x89Q"  # the stack's, and those that call, build and look up


def read_torch(data, folder):
    path = folder / "deeplab_v3_s16-1_1.pt"
    path.write_bytes(data)
    (folder / "last.pt").write_bytes(data)
    kept = CheckpointFolder(folder, "deeplab_v3_s16", keep=1)
    refused = None
    for reader in (kept.newest, lambda: read_as_network(path)):
        try:
            reader()
        except UserError as error:
            refused = error
    kept.tidy("r")
    if refused:
        raise refused


def mutate_pickle(data, generator, mutate_bytes):
    """Other operations: removed, doubled, moved, replaced; other numbers and classes."""
    try:
        places = [at for _, _, at in pickletools.genops(data)]
    except Exception:  # mutated before
        return mutate_bytes(data, len(data) + 64)
    parts = [data[a:b] for a, b in zip(places, [*places[1:], len(data)], strict=True)]
    for _ in range(generator.choice((1, 1, 2, 4))):
        at, kind = generator.randrange(len(parts)), generator.randrange(8)
        if kind == 0:
            del parts[at : at + generator.choice((1, 1, 2))]
        elif kind == 1:
            begin = generator.randrange(len(parts))
            parts[at:at] = parts[begin : begin + generator.choice((1, 2, 8))]
        elif kind in (2, 3):
            parts[at] = number(generator)
        elif kind == 4:
            module, name = generator.choice(GLOBALS).split()
            parts[at] = f"c{module}\n{name}\n".encode()
        elif kind == 5:
            parts[at:at] = [bytes([generator.choice(OPCODES)])]
        elif kind == 6:
            parts[at] = mutate_bytes(parts[at], len(parts[at]) + 16)
        else:
            numbers = [i for i, part in enumerate(parts) if part[:1] in b"KMJ\x8a" and part]
            if numbers:
                parts[generator.choice(numbers)] = number(generator)
        parts = parts or [b"."]
    return b"".join(parts)


def number(generator):
    value = generator.choice((*EXTREMES, -1, -(2**31), 3, 4))
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def unzipped(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(part.filename, archive.read(part)) for part in archive.infolist()]


def zipped(parts, method=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in parts:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


def sealed_again(data):
    """A sealed file with the digest of its bytes as they are now."""
    body = data[:-DIGEST]
    return body + hashlib.sha256(body).hexdigest().encode()


def mutate_torch(data, generator, mutate_bytes, most):
    kind = generator.randrange(8)
    if kind == 0:
        return mutate_bytes(data, most)
    if kind == 1 and b"deeplab_fast.seal/1 " in data:
        return sealed_again(mutate_bytes(data, most))
    if data[:1] == b"\x80":  # an older file, without zip
        return mutate_pickle(data, generator, mutate_bytes)[:most]
    try:
        parts = unzipped(data)
        at = next(i for i, (name, _) in enumerate(parts) if name.endswith("/data.pkl"))
    except Exception:  # mutated before
        return mutate_bytes(data, most)
    if kind == 2:
        at = generator.randrange(len(parts))
        parts[at] = (parts[at][0], mutate_bytes(parts[at][1], len(parts[at][1]) + 64))
    else:
        parts[at] = (parts[at][0], mutate_pickle(parts[at][1], generator, mutate_bytes))
    method = zipfile.ZIP_DEFLATED if generator.randrange(8) == 0 else zipfile.ZIP_STORED
    return zipped(parts, method)[:most]


def saved(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return zipped(unzipped(buffer.getvalue())) if buffer.getvalue()[:2] == b"PK" else buffer.getvalue()


def sealed(content, facts):
    buffer = io.BytesIO()
    seal.write(content, buffer, facts)
    return buffer.getvalue()


class OfSides:
    """A tensor in a pickle, of sides that none has."""

    def __init__(self, *sides):
        self.sides = sides

    def __reduce__(self):
        storage = torch.zeros(1)._typed_storage()
        return _rebuild_tensor_v2, (storage, 0, self.sides, (1,) * len(self.sides), False, OrderedDict())


class Greedy:
    """A storage in a pickle, of all the memory that has an address."""

    def __reduce__(self):
        return torch.UntypedStorage, ((1 << 63) - 1,)


def torch_seeds():
    beside = {"args": argparse.Namespace(lr=0.1), "best": np.float64(0.5), "scores": np.arange(2.0)}
    network = {"backbone.conv1.weight": torch.zeros(1, 3, 1, 1), "classifier.conv2.weight": torch.zeros(2, 1)}
    yield "wrapped", saved({"state_dict": network, **beside})
    yield "older", saved({"model": network}, _use_new_zipfile_serialization=False)
    yield "parameter", saved({"x.weight": torch.nn.Parameter(torch.zeros(2, 3).t()), "n": torch.tensor(3)})
    yield "sparse", saved({"x": torch.eye(2).to_sparse(), "y": torch.empty(2, device="meta")})
    yield "expanded", saved({"conv1.weight": torch.zeros(1).expand(10**5, 3, 10**5, 7), "x": torch.zeros(1)})
    for name, side in (("negative", -1), ("endless", (1 << 63) - 1)):
        yield name, saved({"conv1.weight": OfSides(3, 0, side), "x": torch.zeros(1)}, pickle_protocol=2)
    yield "greedy", saved({"x": torch.zeros(1), "y": Greedy()}, pickle_protocol=2)
    facts = {"format": "deeplab_fast.checkpoint/2", "run": "r", "epoch": 1, "step": 1, "step_in_epoch": 1}
    content = {"format": "deeplab_fast.checkpoint/2", "run": "r", "model": network, "step": 1, "epoch": 1}
    content |= {"evaluated": 0, "world_size": 1, "total_steps": 9, "best_miou": 0.0, "data": "", "average": None}
    content |= {name: {} for name in ("optimiser", "scaler", "rng", "config")}
    yield "sealed", sealed(content, facts)
    yield "odd-seal", sealed(content, {**facts, "epoch": "1", "step": None, "step_in_epoch": [1]})
    yield "bomb", zipped([("x/data.pkl", b"\x80\x02}."), ("x/data/0", bytes(1 << 20))], zipfile.ZIP_DEFLATED)


TARGETS = (
    Target("safetensors", read_safetensors, safetensors_seeds, mutate_safetensors, cpu_seconds=2, megabytes=64),
    # A zip of 8 KB holds 8 MB at most, which is unpacked for its checksums and again for the tensors.
    Target("torch_files", read_torch, torch_seeds, mutate_torch, cpu_seconds=4, megabytes=128),
)
