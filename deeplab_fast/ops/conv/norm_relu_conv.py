"""Normalise (+ residual) + ReLU + convolution + moments of the output, as one op.

Its backward holds in the epilogue of one matrix product what otherwise are passes over the activation: the residual
path's gradient, the ReLU's mask and the sums of the normalisation's gradient.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..dispatch import differentiable, traceable
from ..layout import as_rows, empty_like_rows
from ..norm.deferred import DeferredNorm
from ..norm.norm_relu import norm_relu_reference
from . import gemm
from .conv_moments import as_map, convolve_rows, empty_filters, empty_outputs, filter_gradient, matrix
from .dual_norm_conv import dual_norm_conv


def norm_relu_conv_reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    residual: Tensor | None,
    conv_weight: Tensor,
    training: bool,
    momentum: float,
    eps: float,
    rate: int = 0,
) -> tuple[Tensor, Tensor]:
    """Specify :func:`norm_relu_conv`: return the normalised activation ``[N, C, H, W]``, and its convolution."""
    z = norm_relu_reference(x, weight, bias, running_mean, running_var, residual, True, training, momentum, eps)
    return z, F.conv2d(z, conv_weight, padding=rate, dilation=max(rate, 1))


def norm_relu_conv(
    before: DeferredNorm,
    conv_weight: Tensor,
    moments: bool = True,
    keep: bool = True,
    again: bool = False,
    rate: int = 0,
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Return ``z = relu(norm(y) + residual)`` and its convolution, by kernels.

    Args:
        before: what is to be done first.
        conv_weight: ``[K, C, 1, 1]``, or with a ``rate`` ``[K, C, 3, 3]``, of any float type.
        moments: also return those of parts of the output.
        keep: return ``z`` too, for others that read it. Where there is a residual it is always stored.
        again: ``z`` is not kept for the backward pass, which makes it again. Not where it is returned.
        rate: distance of the taps of a 3x3 convolution, to whose input nothing is added and which alone reads it.

    Returns:
        ``z`` or None, the raw output ``[N, K, H, W]``, and fp32 ``[parts, 3, K]`` or nothing in it.
        Differentiable in all of ``before`` but its statistics, and in ``conv_weight``.
    """
    assert rate == 0 or (before.residual is None and not keep)
    if isinstance(before.residual, DeferredNorm) and before.can_add_in_one_pass():
        return dual_norm_conv(before, before.residual, conv_weight, moments)
    keep = keep or before.residual is not None
    again = again and not keep
    z, y, parts = _norm_relu_conv(
        before.y, before.shortcut(), *before.constants, before.batch, conv_weight, rate, moments, again
    )
    return (z if keep else None), y, parts


def _forward(
    x: Tensor,
    residual: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    batch: bool,
    conv_weight: Tensor,
    rate: int,
    moments: bool,
    again: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    z = _normalised(x, residual, mean, variance, weight, bias, eps)
    return x.new_empty(0) if again else z, *convolve_rows(z, conv_weight, moments, rate)


def _normalised(
    x: Tensor, residual: Tensor | None, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> Tensor:
    from ..norm.triton import norm_relu as kernels

    z = empty_like_rows(x)
    others = None if residual is None else as_rows(residual.to(x.dtype), x)
    kernels.norm_relu(as_rows(x), others, mean, variance, weight, bias, eps, True, as_rows(z))
    return z


def _empty(x, residual, mean, variance, weight, bias, eps, batch, conv_weight, rate, moments, again):  # type: ignore[no-untyped-def]
    z = x.new_empty(0) if again else empty_like_rows(x)
    return z, *empty_outputs(x, conv_weight, moments)


def _backward_pass(
    dz: Tensor | None,
    dy: Tensor,
    x: Tensor,
    z: Tensor,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    batch: bool,
    conv_weight: Tensor,
    rate: int,
    has_residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return gradients of ``x``, the residual (or empty), BatchNorm's weight and bias, and the convolution's.

    ``dz``: of ``z``, from others that read it. ``z`` is empty where forward did not keep it.
    """
    from ..norm.triton import norm_relu as kernels

    z = z if z.numel() else _normalised(x, None, mean, variance, weight, bias, eps)
    b_x, b_dy, b_z, w = as_rows(x), as_rows(dy, x), as_rows(z, x), matrix(conv_weight, x.dtype)
    added = None if dz is None else as_rows(dz, x)
    constants = mean, variance, weight, bias, eps
    norm, window = gemm.NormInput(b_x, *constants), gemm.Window.of(x, rate)
    if (added is None) == (not has_residual):
        gradient, parts = gemm.norm_gradient(b_dy, w, norm, added, None if added is None else b_z, window)
        sums = kernels.add_parts(parts)
    else:  # two readers without a residual, or one with it: as rare as they are, in a product and a pass
        assert window is None
        gradient = torch.empty_like(b_x)
        mask = b_z if has_residual else None
        sums = kernels.norm_relu_sums(torch.mm(b_dy, w), b_x, mask, *constants, True, added, gradient)
    count, dx = float(b_x.shape[0]) if batch else None, empty_like_rows(x)
    kernels.norm_relu_backward(gradient, b_x, None, *constants, False, sums, count, as_rows(dx), None)
    dweight = filter_gradient(b_dy, b_z, conv_weight, window)
    dresidual = as_map(gradient, x) if has_residual else x.new_empty(0)
    return dx, dresidual, sums[1].to(weight.dtype), sums[0].to(bias.dtype), dweight


def _empty_gradients(dz, dy, x, z, mean, variance, weight, bias, eps, batch, conv_weight, rate, has_residual):  # type: ignore[no-untyped-def]
    dresidual = empty_like_rows(x) if has_residual else x.new_empty(0)
    vectors = torch.empty_like(weight), torch.empty_like(bias)
    return empty_like_rows(x), dresidual, *vectors, empty_filters(conv_weight)


_gradients = traceable("norm_relu_conv_backward", _backward_pass, _empty_gradients)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, residual, mean, variance, weight, bias, ctx.eps, ctx.batch, conv_weight, ctx.rate, *_ = inputs
    ctx.has_residual = residual is not None
    ctx.residual_type = None if residual is None else residual.dtype
    ctx.mark_non_differentiable(output[2])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, output[0], mean, variance, weight, bias, conv_weight)


def _backward(ctx, dz, dy, _):  # type: ignore[no-untyped-def]
    x, z, mean, variance, weight, bias, conv_weight = ctx.saved_tensors
    if dy is None:  # only z was used
        dy = x.new_zeros(x.shape[0], conv_weight.shape[0], *x.shape[2:])
    if dz is not None and dz.numel() == 0:
        dz = None
    dx, dresidual, dweight, dbias, dconv = _gradients(
        dz, dy, x, z, mean, variance, weight, bias, ctx.eps, ctx.batch, conv_weight, ctx.rate, ctx.has_residual
    )
    dresidual = dresidual.to(ctx.residual_type) if ctx.has_residual else None
    return dx, dresidual, None, None, dweight, dbias, None, None, dconv, None, None, None


_norm_relu_conv = differentiable("norm_relu_conv", _forward, _empty, _setup_context, _backward)
