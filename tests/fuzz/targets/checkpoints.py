"""MindSpore's checkpoints: the tensors, then what network they are taken for."""

import json
import math
import zlib

from deeplab_fast.model.weights import infer_config, read_mindspore, read_weights, refuse_other_networks
from deeplab_fast.model.weights.mindspore import is_mindspore
from deeplab_fast.model.weights.protobuf import encode_bytes, encode_varint

from .target import Target

TRAILER = 17  # bytes: crc_num and the checksum


def read(data, folder):
    path = folder / "x.ckpt"
    path.write_bytes(data)
    for tensor in read_mindspore(path).values():
        assert isinstance(tensor, str) or tensor.numel() == math.prod(tensor.shape)
    if is_mindspore(path):
        file = read_weights(path)
        json.dumps(sorted(file.tensors)).encode()
        infer_config(file)
        refuse_other_networks(file)


def value(name, shape=(), kind="Float32", content=b"\0\0\0\0", packed=False):
    dims = b"".join(encode_varint(1, size) for size in shape)
    if packed:
        dims = encode_bytes(1, bytes(shape))
    tensor = dims + encode_bytes(2, kind.encode()) + encode_bytes(3, content)
    return encode_bytes(1, encode_bytes(1, name.encode()) + encode_bytes(2, tensor))


def sealed(data):
    return data + b"crc_num" + zlib.crc32(data).to_bytes(10, "big")


def network(prefix=""):
    """The first of the recipe's names, with a tensor of one number each."""
    names = ("resnet.conv1.weight", "resnet.bn1.gamma", "resnet.layer1.0.conv1.weight", "aspp.bn1.gamma",
             "aspp.aspp1.aspp_conv.0.weight", "aspp.conv2.weight", "resnet.layer1.0.bn1.moving_mean")  # fmt: skip
    return b"".join(value(prefix + name, (1, 1, 1, 1)) for name in names)


def seeds():
    kinds = {"Int8": 2, "Bool": 2, "Float16": 4, "BFloat16": 4, "Float64": 16, "UInt64": 16}
    yield "types", b"".join(value(kind, (2,), kind, bytes(size)) for kind, size in kinds.items())
    yield "text", value("note", (0,), "str", "caf\u00e9".encode("utf-32-le")) + value("x")
    yield "slices", value("x", (2, 2), content=bytes(8)) * 2 + value("y", (2,), content=bytes(8), packed=True)
    yield "empty", value("x", (0, 3), content=b"")
    yield "sealed", sealed(value("x"))
    yield "network", network("network.") + value("moments.network.resnet.conv1.weight") + value("learning_rate", (1,))
    yield "sealed-network", sealed(network())
    yield "map", encode_bytes(1, encode_bytes(1, b"m") + encode_bytes(3, b""))


def mutate(data, generator, mutate_bytes, most):
    """Half of the inputs get a checksum that is right."""
    if generator.random() < 0.5:
        return mutate_bytes(data, most)
    has_checksum = data[-TRAILER:-10] == b"crc_num"
    return sealed(mutate_bytes(data[:-TRAILER] if has_checksum else data, most - TRAILER))


TARGET = Target("checkpoints", read, seeds, mutate, cpu_seconds=2, megabytes=64)
