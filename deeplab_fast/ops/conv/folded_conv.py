"""Inference on a CPU: a convolution with the BatchNorm after it folded into its weights, the residual and the ReLU in
the same pass of oneDNN, so that its output is written once and never read again.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from ..dispatch import is_eager
from .atrous_conv import atrous_conv2d, product_dtype
from .conv_by_taps import prefers_taps


class _Fold(NamedTuple):
    weight: Tensor
    bias: Tensor


class Folds(dict[tuple[int, torch.dtype], _Fold]):
    """Folded weights of a network whose weights no longer change, and which outlives them."""


_kept: ContextVar[Folds | None] = ContextVar("folds", default=None)


@contextmanager
def keep_folds(folds: Folds) -> Iterator[None]:
    """Let :func:`folded_conv` fold the same weights once, into ``folds``, inside the block: a copy of all of them."""
    token = _kept.set(folds)
    try:
        yield
    finally:
        _kept.reset(token)


def can_fold_bn(x: Tensor, training: bool, fused: str) -> bool:
    """Tell whether :func:`folded_conv` takes ``x`` ``[N, C, H, W]``: at inference, untraced, in a type of oneDNN's."""
    if fused != "auto" or training or torch.is_grad_enabled() or x.device.type != "cpu" or not is_eager(x):
        return False
    return product_dtype(x) in _dtypes()


@cache
def _dtypes() -> frozenset[torch.dtype]:
    """Return the types that oneDNN has convolutions of on this processor: bf16 needs AVX-512, or AVX2's own of bf16."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops, "mkldnn"):
        return frozenset()
    return frozenset({torch.float32, *([torch.bfloat16] if torch.ops.mkldnn._is_mkldnn_bf16_supported() else [])})


def folded_conv(
    x: Tensor,
    weight: Tensor,
    bn_weight: Tensor,
    bn_bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    *,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    residual: Tensor | None = None,
    relu: bool = True,
    eps: float = 1e-5,
) -> Tensor:
    """Return ``relu(batch_norm(conv2d(x, weight)) + residual)`` with the running statistics.

    Args:
        x: ``[N, C, H, W]``; under autocast it and the weights are taken in autocast's type.
        weight: ``[K, C, h, w]``.
        bn_weight, bn_bias, running_mean, running_var: ``[K]``, fp32.
        stride, padding, dilation: of rows and columns.
        residual: as the output, added before the ReLU, or None.

    Returns:
        ``[N, K, H', W']`` in the type of the products. Where :func:`can_fold_bn` says so; not differentiable. The
        folded weights are made anew at each call, which costs a read and a write of them and can never be out of date,
        but within :func:`keep_folds`.
        oneDNN's ReLU makes 0 of a NaN, so weights are to be finite (``inference.trained_model`` sees to it).
    """
    dtype = product_dtype(x)
    folds, key = _kept.get(), (id(weight), dtype)
    fold = None if folds is None else folds.get(key)
    if fold is None:
        scale = bn_weight * torch.rsqrt(running_var + eps)
        bias = torch.addcmul(bn_bias, running_mean, scale, value=-1).to(dtype)
        fold = _Fold((weight * scale.view(-1, 1, 1, 1)).to(dtype), bias)
        if folds is not None:
            folds[key] = fold
    weight, bias = fold
    x, rate = x.to(dtype), dilation[0]
    if residual is not None:
        residual = residual.to(dtype)
    atrous = weight.shape[2] == 3 and tuple(padding) == tuple(dilation) == (rate, rate)
    if atrous and (rate >= min(x.shape[2:]) or (tuple(stride) == (1, 1) and prefers_taps(x, rate, dtype))):
        y = atrous_conv2d(x, weight, stride, dilation).add_(bias.view(1, -1, 1, 1))
        if residual is not None:
            y.add_(residual)
        return y.relu_() if relu else y
    where = (list(padding), list(stride), list(dilation), 1)
    pointwise = torch.ops.mkldnn._convolution_pointwise
    after = "relu" if relu else "none"
    if residual is None:
        return pointwise(x, weight, bias, *where, after, [], "")
    return pointwise.binary(x, residual, weight, bias, *where, "add", None, after if relu else None, [], "")
