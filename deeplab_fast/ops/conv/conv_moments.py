"""A 1x1 convolution of rows of pixels with the moments of its output, from which BatchNorm's statistics are merged."""

import torch
from torch import Tensor

from ..dispatch import differentiable, traceable
from ..layout import CHANNELS_LAST, as_rows, empty_like_rows, from_rows, is_pixel_major
from . import gemm
from .weight_copies import in_type


def conv_moments(x: Tensor, conv_weight: Tensor, moments: bool = True) -> tuple[Tensor, Tensor]:
    """Return the 1x1 convolution of ``x`` ``[N, C, H, W]``, raw, and fp32 ``[parts, 3, K]``, or nothing in it.

    ``conv_weight``: ``[K, C, 1, 1]``, of any float type. Differentiable in both; parts carry no gradient.
    """
    return _conv_moments(x, conv_weight, moments)


def matrix(conv_weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``[K, C]`` of a 1x1 convolution, ``[K, 3, 3, C]`` of a 3x3: a view where they are stored so."""
    weight = in_type(conv_weight, dtype).permute(CHANNELS_LAST).contiguous()
    return weight.flatten(1) if weight.shape[1] == 1 else weight


def filter_gradient(dy: Tensor, x: Tensor, conv_weight: Tensor, window: gemm.Window | None) -> Tensor:
    """Return the gradient of ``conv_weight``, in its shape and type, from rows ``[pixels, K]`` and ``[pixels, C]``."""
    k, c, height, width = conv_weight.shape
    dweight = gemm.weight_gradient(dy, x, window).view(k, height, width, c)
    return dweight.permute(0, 3, 1, 2).to(conv_weight.dtype)


def as_map(rows: Tensor, like: Tensor) -> Tensor:
    """Return ``rows`` ``[N*H*W, K]`` as ``[N, K, H, W]``, their order that of ``like``."""
    n, _, h, w = like.shape
    return from_rows(rows, n, h, w, is_pixel_major(like))


def empty_filters(conv_weight: Tensor) -> Tensor:
    """Return an uninitialised ``[K, C, h, w]`` like ``conv_weight``, stored channels-last."""
    k, c, height, width = conv_weight.shape
    return conv_weight.new_empty(k, height, width, c).permute(0, 3, 1, 2)


def convolve_rows(x: Tensor, conv_weight: Tensor, moments: bool, rate: int = 0) -> tuple[Tensor, Tensor]:
    """Return the convolution of ``x`` ``[N, C, H, W]``, in its order, and the moments of its parts or nothing."""
    rows, w, window = as_rows(x), matrix(conv_weight, x.dtype), gemm.Window.of(x, rate)
    if moments or rate:
        y, parts = gemm.product(rows, w, window)
    else:
        y = torch.mm(rows, w.t())
    return as_map(y, x), parts if moments else x.new_empty(0, dtype=torch.float32)


def empty_outputs(x: Tensor, conv_weight: Tensor, moments: bool) -> tuple[Tensor, Tensor]:
    """Return what :func:`convolve_rows` does, uninitialised: ``[N, K, H, W]`` and ``[parts, 3, K]`` or ``[0]``."""
    n, _, h, w = x.shape
    channels = conv_weight.shape[0]
    parts = (gemm.parts_of(n * h * w), 3, channels) if moments else (0,)
    return empty_like_rows(x, channels), x.new_empty(parts, dtype=torch.float32)


def _forward(x: Tensor, conv_weight: Tensor, moments: bool) -> tuple[Tensor, Tensor]:
    return convolve_rows(x, conv_weight, moments)


def _backward_pass(dy: Tensor, x: Tensor, conv_weight: Tensor, with_x: bool) -> tuple[Tensor, Tensor]:
    """Return gradients of ``x`` (empty unless asked for) and of the weights."""
    rows, b_dy = as_rows(x), as_rows(dy, x)
    dweight = filter_gradient(b_dy, rows, conv_weight, None)
    if not with_x:
        return x.new_empty(0), dweight
    return as_map(torch.mm(b_dy, matrix(conv_weight, x.dtype)), x), dweight


def _empty_gradients(dy, x, conv_weight, with_x):  # type: ignore[no-untyped-def]
    dweight = empty_filters(conv_weight)
    return empty_like_rows(x) if with_x else x.new_empty(0), dweight


_gradients = traceable("conv_moments_backward", _backward_pass, _empty_gradients)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, conv_weight, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, conv_weight)


def _backward(ctx, dy, _):  # type: ignore[no-untyped-def]
    x, conv_weight = ctx.saved_tensors
    if dy is None:
        return None, None, None
    dx, dweight = _gradients(dy, x, conv_weight, ctx.needs_input_grad[0])
    return dx if ctx.needs_input_grad[0] else None, dweight, None


_conv_moments = differentiable("conv_moments", _forward, empty_outputs, _setup_context, _backward)
