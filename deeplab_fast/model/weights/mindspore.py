"""MindSpore's checkpoint files (``.ckpt``), read and written without MindSpore.

A file is a sequence of values, each ``0x0A``, a varint, and that many bytes of a protobuf message ``Value {string tag =
1; oneof {TensorProto tensor = 2; MapTensorProto maptensor = 3}}`` with ``TensorProto {repeated int64 dims = 1; string
tensor_type = 2; bytes tensor_content = 3}``: little-endian, in C order. A tensor above 512 MiB is cut into values of
the same tag, each with all dims. A file may end with ``crc_num`` and a CRC-32 of what comes before in 10 bytes,
big-endian.
"""

import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from deeplab_fast.errors import UserError
from deeplab_fast.storage.files import raise_if_broken, replace_file

from .protobuf import LENGTH, VARINT, Damaged, Field, encode_bytes, encode_varint, fields_of

_VALUE, _TAG, _TENSOR, _MAP_TENSOR = b"\x0a", 1, 2, 3
_DIMS, _TYPE, _CONTENT = 1, 2, 3
_CRC_MARK, _CRC_BYTES = b"crc_num", 10
_SLICE = 512 << 20  # bytes
_TEXT = "str"
_DTYPES = {
    **{f"Int{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"UInt{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"Float{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    "BFloat16": np.dtype("<i2"),  # its bits; NumPy has no such type
    "Bool": np.dtype("u1"),
}


@dataclass
class _Value:
    """A tensor, or the slices of one that have been read, and where it began."""

    tag: str
    dims: tuple[int, ...]
    type: str
    content: list[memoryview]
    at: int

    def missing_bytes(self) -> int:
        """Count the bytes still to come; those of a text are as many as there are."""
        if self.type == _TEXT:
            return 0
        return math.prod(self.dims) * _DTYPES[self.type].itemsize - sum(map(len, self.content))


def is_mindspore(path: Path) -> bool:
    """Tell from its first byte whether a file may be MindSpore's; neither zip files nor pickles begin so.

    Raises:
        UserError: the system cannot read it.
    """
    try:
        with path.open("rb") as file:
            return file.read(1) == _VALUE
    except OSError as error:
        raise_if_broken(path, error)
        return False


def read_mindspore(path: Path) -> dict[str, Tensor | str]:
    """Return the tensors and texts of a checkpoint by name, of the types that they have in the file.

    Raises:
        UserError: it cannot be read, is damaged (names the byte), holds no tensor, or one of a kind that is not read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    found: dict[str, Tensor | str] = {}
    try:
        for value in _joined(_values(memoryview(_without_crc(data)))):
            if value.tag in found:
                raise Damaged(value.at, f"a second tensor named {value.tag!r}")
            found[value.tag] = _decoded(value)
    except Damaged as error:
        raise UserError(f"{path}: byte {error.at:,}: {error}; not a MindSpore checkpoint, or damaged") from None
    if not any(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"{path}: holds no tensor; expected a MindSpore checkpoint")
    return found


def _without_crc(data: bytes) -> bytes:
    """Return what comes before the checksum, where there is one.

    Raises:
        Damaged: it is of other bytes.
    """
    end = len(data) - len(_CRC_MARK) - _CRC_BYTES
    if end < 0 or data[end : end + len(_CRC_MARK)] != _CRC_MARK:
        return data
    stored, found = int.from_bytes(data[-_CRC_BYTES:], "big"), zlib.crc32(memoryview(data)[:end])
    if stored != found:
        raise Damaged(end, f"the file's checksum is {stored:08x}, that of its bytes {found:08x}")
    return data[:end]


def _values(data: memoryview) -> Iterator[_Value]:
    for field in fields_of(data):
        if (field.number, field.kind) != (1, LENGTH):
            raise Damaged(field.at, "no value begins here")
        yield _value(field)


def _value(message: Field) -> _Value:
    tag, tensor = "", None
    for field in fields_of(message.payload, message.start):
        if (field.number, field.kind) == (_TAG, LENGTH):
            tag = field.text()
        elif (field.number, field.kind) == (_TENSOR, LENGTH):
            tensor = field
        elif field.number == _MAP_TENSOR:
            raise Damaged(field.at, f"{tag!r} is a map tensor (a hash table of embeddings), which is not read")
    if tensor is None:
        raise Damaged(message.at, f"a value without a tensor (its name is {tag[:80]!r})")
    dims: list[int] = []
    kind, content = "", [message.payload[:0]]
    for field in fields_of(tensor.payload, tensor.start):
        if (field.number, field.kind) == (_DIMS, VARINT):
            dims.append(field.integer)
        elif (field.number, field.kind) == (_DIMS, LENGTH):
            dims += field.varints()
        elif (field.number, field.kind) == (_TYPE, LENGTH):
            kind = field.text()
        elif (field.number, field.kind) == (_CONTENT, LENGTH):
            content = [field.payload]
    if kind not in _DTYPES and kind != _TEXT:
        raise Damaged(tensor.at, f"{tag[:80]!r} is of type {kind[:80]!r}; expected one of {', '.join(_DTYPES)}")
    return _Value(tag, tuple(dims), kind, content, message.at)


def _joined(values: Iterator[_Value]) -> Iterator[_Value]:
    """Join the slices of a tensor."""
    whole: _Value | None = None
    for value in values:
        if whole is None:
            whole = value
        elif (value.tag, value.dims, value.type) == (whole.tag, whole.dims, whole.type):
            whole.content += value.content
        else:
            break
        if whole.missing_bytes() == 0:
            yield whole
            whole = None
        elif whole.missing_bytes() < 0:
            break
    if whole is not None:
        _refuse_missing(whole)


def _refuse_missing(value: _Value) -> NoReturn:
    shape = "x".join(map(str, value.dims)) or "a scalar"
    found = sum(map(len, value.content))
    raise Damaged(
        value.at,
        f"{value.tag[:80]!r} is {shape[:200]} of {value.type} and has {found:,} bytes;"
        f" expected {found + value.missing_bytes():,}",
    )


def _decoded(value: _Value) -> Tensor | str:
    content = bytearray().join(value.content)
    if value.type == _TEXT:
        try:
            return content.decode("utf-32-le")
        except UnicodeDecodeError:
            raise Damaged(value.at, f"{value.tag!r} is no text in UTF-32") from None
    try:
        array = np.frombuffer(content, _DTYPES[value.type]).reshape(value.dims)
    except (ValueError, OverflowError):
        raise Damaged(value.at, f"{value.tag[:80]!r} has dimensions that no array can have") from None
    tensor = torch.from_numpy(array)
    if value.type == "BFloat16":
        return tensor.view(torch.bfloat16)
    return tensor != 0 if value.type == "Bool" else tensor


def write_mindspore(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as a checkpoint that MindSpore's ``load_checkpoint`` reads, with its checksum at the end.

    Raises:
        UserError: it cannot be written.
    """
    checksum = 0
    with replace_file(path) as partial, partial.open("wb") as file:
        for part in _encoded(tensors):
            checksum = zlib.crc32(part, checksum)
            file.write(part)
        file.write(_CRC_MARK + checksum.to_bytes(_CRC_BYTES, "big"))


def _encoded(tensors: Mapping[str, Tensor]) -> Iterator[bytes]:
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        bits = plain.view(torch.int16) if plain.dtype == torch.bfloat16 else plain
        content = memoryview(bits.numpy().tobytes())
        head = b"".join(encode_varint(_DIMS, size) for size in plain.shape)
        head += encode_bytes(_TYPE, _type_name(plain.dtype).encode())
        for begin in range(0, max(len(content), 1), _SLICE):
            body = encode_bytes(_TENSOR, head + encode_bytes(_CONTENT, content[begin : begin + _SLICE]))
            yield encode_bytes(1, encode_bytes(_TAG, name.encode()) + body)


def _type_name(dtype: torch.dtype) -> str:
    name = str(dtype).removeprefix("torch.")
    return next((other for other in _DTYPES if other.lower() == name), name)
