"""Batch normalisation (Ioffe and Szegedy 2015), residual addition and ReLU in one op.

Two halves: the batch's statistics, which processes may exchange (``sync_batch_norm.py``), and the
pass that normalises. The kernels save ``x``, the raw convolution output, and recompute x-hat and the
ReLU's mask from it; with a residual the mask comes from the output, which its consumer keeps anyway.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..dispatch import differentiable, is_eager, traceable, use_kernels
from ..layout import as_rows, empty_like_rows
from ..triton import DTYPES
from .batch_norm_stats import batch_norm_stats
from .params import NormConstants


def norm_relu_reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    residual: Tensor | None,
    relu: bool,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """Specify :func:`norm_relu` ``[N, C, H, W]``: torch's three operations, the later two in place."""
    y = F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    if residual is not None:
        y = y.add_(residual)
    return y.relu_() if relu else y


def norm_relu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    *,
    residual: Tensor | None = None,
    relu: bool = True,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    fused: str = "auto",
) -> Tensor:
    """Return ``relu(batch_norm(x) + residual)``.

    Args:
        x: ``[N, C, H, W]``, fp32, fp16 or bf16 where the kernels run; best stored channels-last or pixel-major.
        weight, bias: ``[C]``, fp32 or as ``x``.
        running_mean, running_var: fp32 ``[C]``. With ``training`` they are moved by ``momentum`` (the
            variance with n/(n-1)) and the batch's own statistics normalise; else they do.
        residual: as ``x``, added before the ReLU, or None.
        fused: ``auto``, ``on`` or ``off``, see :func:`~deeplab_fast.ops.dispatch.use_kernels`.

    Returns:
        ``[N, C, H, W]`` of ``x``'s dtype, stored as ``x`` where the kernels run. Differentiable in ``x``,
        ``weight``, ``bias`` and ``residual``. Arithmetic is fp32; statistics are merged (count, mean,
        M2) partials, so a large mean costs no precision.

    Raises:
        UserError: ``fused`` is ``on`` and the kernels cannot run; says why.
    """
    if not use_kernels("norm_relu", fused, x.device, supports(x)):
        return norm_relu_reference(x, weight, bias, running_mean, running_var, residual, relu, training, momentum, eps)
    mean, variance = running_mean, running_var
    if training:
        mean, variance = batch_norm_stats(x.detach(), running_mean, running_var, momentum)
    return normalize_relu(x, NormConstants(mean, variance, weight, bias, eps), residual, relu, training)


def normalize_relu(x: Tensor, constants: NormConstants, residual: Tensor | None, relu: bool, batch: bool) -> Tensor:
    """Return ``relu(norm(x) + residual)`` ``[N, C, H, W]`` by kernels, given the statistics.

    ``batch``: they are those of ``x``, and carry gradient.
    """
    if residual is not None:
        residual = residual.to(x.dtype)
    return _norm_relu(x, residual, *constants, relu, batch)


def normalize_relu_shared(
    x: Tensor, constants: NormConstants, residual: Tensor | None, batch: bool
) -> tuple[Tensor, Tensor]:
    """Return what :func:`normalize_relu` does, with ReLU, for two readers.

    The same memory twice ``[N, C, H, W]``, each with a gradient of its own, which the pass that sums the gradients adds
    up as it reads them.
    """
    if not is_eager(x):  # a registered op must not return a tensor twice
        y = normalize_relu(x, constants, residual, True, batch)
        return y, y
    if residual is not None:
        residual = residual.to(x.dtype)
    return _Shared.apply(x, residual, *constants, True, batch)


def supports(x: Tensor) -> str | None:
    """Return why the kernels cannot take ``x`` ``[N, C, H, W]``, or None."""
    if x.dtype not in DTYPES:
        return f"x is {x.dtype}; expected fp32, fp16 or bf16"
    return None if x.numel() else "x is empty"


def _forward(
    x: Tensor,
    residual: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    relu: bool,
    batch: bool,
) -> Tensor:
    from .triton import norm_relu as kernels

    y = empty_like_rows(x)
    rows = None if residual is None else as_rows(residual, x)
    kernels.norm_relu(as_rows(x), rows, mean, variance, weight, bias, eps, relu, as_rows(y))
    return y


def _empty(x, residual, mean, variance, weight, bias, eps, relu, batch):  # type: ignore[no-untyped-def]
    return empty_like_rows(x)


def _backward_pass(
    dy: Tensor,
    x: Tensor,
    y: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    relu: bool,
    batch: bool,
    with_residual: bool,
    more: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return gradients of ``x``, the residual (empty unless asked for), weight and bias; ``more`` is added to ``dy``.

    The residual's is the gradient before the ReLU: the pass over the sums leaves it for the one after, which then need
    not mask again.
    """
    from .triton import norm_relu as kernels

    b_dy, b_x, b_y = as_rows(dy, x), as_rows(x), None if y is None else as_rows(y, x)
    b_more = None if more is None else as_rows(more, x)
    constants, count = (mean, variance, weight, bias, eps), float(b_x.shape[0]) if batch else None
    dx = empty_like_rows(x)
    stored = with_residual or more is not None
    dz = empty_like_rows(x) if stored else x.new_empty(0)
    b_dz = as_rows(dz) if stored else None
    sums = kernels.norm_relu_sums(b_dy, b_x, b_y, *constants, relu, b_more, b_dz)
    if b_dz is not None:
        b_dy, b_y, relu = b_dz, None, False
    kernels.norm_relu_backward(b_dy, b_x, b_y, *constants, relu, sums, count, as_rows(dx), None)
    return dx, dz if with_residual else x.new_empty(0), sums[1].to(weight.dtype), sums[0].to(bias.dtype)


def _empty_gradients(dy, x, y, mean, variance, weight, bias, eps, relu, batch, with_residual, more=None):  # type: ignore[no-untyped-def]
    dresidual = empty_like_rows(x) if with_residual else x.new_empty(0)
    return empty_like_rows(x), dresidual, torch.empty_like(weight), torch.empty_like(bias)


_gradients = traceable("norm_relu_backward", _backward_pass, _empty_gradients)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, residual, mean, variance, weight, bias, ctx.eps, ctx.relu, ctx.batch = inputs
    ctx.has_residual = residual is not None
    y = output[0] if isinstance(output, tuple) else output
    mask = y if ctx.has_residual and ctx.relu else None
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, mask, mean, variance, weight, bias)


def _backward(ctx, dy, more=None):  # type: ignore[no-untyped-def]
    x, y, mean, variance, weight, bias = ctx.saved_tensors
    if dy is None:
        dy, more = more, None
    if dy is None:
        return (None,) * 9
    masked = ctx.has_residual and ctx.relu
    dx, dresidual, dweight, dbias = _gradients(
        dy, x, y, mean, variance, weight, bias, ctx.eps, ctx.relu, ctx.batch, masked, more
    )
    if not ctx.has_residual:
        dresidual = None
    elif not masked:
        dresidual = dy if more is None else dy + more
    return dx, dresidual, None, None, dweight, dbias, None, None, None


_norm_relu = differentiable("norm_relu", _forward, _empty, _setup_context, _backward)


class _Shared(torch.autograd.Function):
    """The same for two readers."""

    @staticmethod
    def forward(*given):  # type: ignore[no-untyped-def]
        y = _forward(*given)
        return y, y.detach()

    setup_context = staticmethod(_setup_context)
    backward = staticmethod(torch.autograd.function.once_differentiable(_backward))  # type: ignore[assignment]
