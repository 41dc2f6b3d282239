"""Make of a file's tensor one that the network can hold, or say in one line why it cannot."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from deeplab_fast.errors import UserError

_CONVERTED = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_COUNT = "num_batches_tracked"
_MOST_EXPANDED = 1 << 24  # bytes
_MOST_VALUES = 1 << 48  # of a tensor: no machine holds as many
_MOST_DIMENSIONS = 4  # of a weight; torch counts with no more than 64


def shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"


def usable(path: Path, key: str, tensor: Tensor) -> Tensor:
    """Return a dense, finite fp32 tensor of the same shape and values; BatchNorm's count of batches as it is.

    Raises:
        UserError: the tensor has no values, is of another kind or type, or holds a value that cannot be a weight.
    """
    reason = _reason_against(key, tensor)
    if reason is not None:
        raise UserError(f"{path}: {key} {reason}")
    if key.endswith(_COUNT):
        return tensor.detach()
    converted = tensor.detach().to(torch.float32)
    if not converted.isfinite().all():
        raise UserError(f"{path}: {key} holds NaN or infinity; expected finite weights (did the training diverge?)")
    if key.endswith("running_var") and (converted < 0).any():
        raise UserError(f"{path}: {key} holds a variance below 0; expected BatchNorm's running variance")
    return converted


def refuse_sizes(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Check that no tensor is much larger than what the file holds of it: strides of 0 make of one number any shape.

    Raises:
        UserError: one is, its values would take more memory than the file says; or its sides are below 0 or endless:
            torch.load takes any beside one of 0, and other operations raise.
    """
    for key, tensor in tensors.items():
        if tensor.is_nested:
            continue
        if any(side < 0 for side in tensor.shape) or math.prod(side or 1 for side in tensor.shape) > _MOST_VALUES:
            raise UserError(f"{path}: {key} is {shape(tensor)}; expected the sides of a tensor")
        if tensor.is_meta or tensor.layout != torch.strided:
            continue  # refused where its values are wanted
        size, held = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
        if size > max(held, _MOST_EXPANDED):
            raise UserError(f"{path}: {key} is {shape(tensor)}, of which {held:,} bytes are stored; expected all")


def _reason_against(key: str, tensor: Tensor) -> str | None:
    if tensor.is_meta:
        return "is a meta tensor without values; expected a file saved from a network whose weights are in memory"
    if tensor.is_nested or tensor.layout != torch.strided:
        kind = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
        return f"is a {kind} tensor; expected a dense one (save tensor.to_dense())"
    if tensor.dim() > _MOST_DIMENSIONS:
        return f"has {tensor.dim()} dimensions; expected at most {_MOST_DIMENSIONS}"
    if tensor.is_quantized:
        return f"is quantised ({_type(tensor)}); expected the floating-point weights from before"
    if tensor.is_complex():
        return f"is complex ({_type(tensor)}); expected real weights"
    if key.endswith(_COUNT):
        return None if tensor.numel() == 1 else f"is {shape(tensor)}; expected one number"
    if tensor.dtype not in _CONVERTED:
        return f"is of type {_type(tensor)}; expected float32, float16, bfloat16 or float64"
    return None


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
