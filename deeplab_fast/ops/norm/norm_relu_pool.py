"""The stem's batch normalisation, ReLU and max-pooling (3x3, stride 2, padding 1) in one op."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..dispatch import differentiable, traceable, use_kernels
from .batch_norm_stats import batch_norm_stats
from .norm_relu import norm_relu_reference, supports


def norm_relu_pool_reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """Specify :func:`norm_relu_pool`, ``[N, C, H, W]`` to ``[N, C, ceil(H/2), ceil(W/2)]``."""
    y = norm_relu_reference(x, weight, bias, running_mean, running_var, None, True, training, momentum, eps)
    return F.max_pool2d(y, 3, 2, 1)


def norm_relu_pool(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    *,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    fused: str = "auto",
) -> Tensor:
    """Return ``max_pool(relu(batch_norm(x)))`` ``[N, C, ceil(H/2), ceil(W/2)]`` of ``x`` ``[N, C, H, W]``.

    Arguments, dtypes and errors as :func:`~deeplab_fast.ops.norm_relu`. The kernels store the pooled
    values and one byte each; of equal values in a window the first gets the gradient, as in torch.
    """
    if not use_kernels("norm_relu_pool", fused, x.device, supports(x)):
        return norm_relu_pool_reference(x, weight, bias, running_mean, running_var, training, momentum, eps)
    mean, variance = running_mean, running_var
    if training:
        mean, variance = batch_norm_stats(x.detach(), running_mean, running_var, momentum)
    return _norm_relu_pool(x, mean, variance, weight, bias, eps, training)[0]


def _pixels(x: Tensor) -> Tensor:
    """Return ``[N, H, W, C]`` of ``[N, C, H, W]``, contiguous: a view of channels-last storage, else a copy."""
    return x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)


def _empty_outputs(x: Tensor) -> tuple[Tensor, Tensor]:
    n, c, h, w = x.shape
    size = (n, c, (h + 1) // 2, (w + 1) // 2)
    y = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    return y, torch.empty_like(y, dtype=torch.uint8)


def _empty_gradient(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.channels_last)


def _forward(
    x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float, batch: bool
) -> tuple[Tensor, Tensor]:
    """Return the pooled values, and which tap of its window each came from, uint8."""
    from .triton import norm_relu_pool as kernels

    y, taps = _empty_outputs(x)
    kernels.norm_relu_pool(_pixels(x), mean, variance, weight, bias, eps, _pixels(y), _pixels(taps))
    return y, taps


def _empty(x, mean, variance, weight, bias, eps, batch):  # type: ignore[no-untyped-def]
    return _empty_outputs(x)


def _backward_pass(
    dy: Tensor,
    taps: Tensor,
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    batch: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return gradients of ``x``, weight and bias."""
    from .triton import norm_relu_pool as kernels

    dx, pixels = _empty_gradient(x), _pixels(x)
    inputs = (_pixels(dy), _pixels(taps), pixels, mean, variance, weight, bias, eps)
    sums = kernels.norm_relu_pool_sums(*inputs)
    count = float(pixels.shape[:3].numel()) if batch else None
    kernels.norm_relu_pool_backward(*inputs, sums, count, _pixels(dx))
    return dx, sums[1].to(weight.dtype), sums[0].to(bias.dtype)


def _empty_gradients(dy, taps, x, mean, variance, weight, bias, eps, batch):  # type: ignore[no-untyped-def]
    return _empty_gradient(x), torch.empty_like(weight), torch.empty_like(bias)


_gradients = traceable("norm_relu_pool_backward", _backward_pass, _empty_gradients)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, mean, variance, weight, bias, ctx.eps, ctx.batch = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1], x, mean, variance, weight, bias)


def _backward(ctx, dy, _):  # type: ignore[no-untyped-def]
    dx, dweight, dbias = _gradients(dy, *ctx.saved_tensors, ctx.eps, ctx.batch)
    return dx, None, None, dweight, dbias, None, None


_norm_relu_pool = differentiable("norm_relu_pool", _forward, _empty, _setup_context, _backward)
