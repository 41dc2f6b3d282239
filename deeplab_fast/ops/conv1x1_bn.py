"""1x1 convolutions between batch normalisations: what a residual network's bottleneck is made of.

A convolution's raw output is not normalised where it is made, but where it is read: a
:class:`~deeplab_fast.ops.pending.Pending` carries it with its statistics to the next operation. So the op here is
*normalise (+ residual) + ReLU + 1x1 convolution + moments of the output*, and its backward holds in the epilogue of
one matrix product what otherwise are passes over the activation: the residual path's gradient, the ReLU's mask and
the sums of the normalisation's gradient.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .batch_moments import is_eager
from .conv_branches import best_tile, conv_branches, matrix_gradient
from .layout import as_rows, empty_like_rows
from .norm_relu import norm_relu_reference
from .pending import Pending, pending
from .triton import chip
from .triton.schedule import PixelMap
from .triton.tiles import (
    CONV_NORM,
    CONV_NORM_BACKWARD,
    CONV_NORM_BACKWARD_Z,
    CONV_NORM_FP32,
    FORWARD,
    NORM_GRADIENT,
    ConvTile,
    choose,
)


def norm_relu_conv1x1_reference(
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
) -> tuple[Tensor, Tensor]:
    """The specification of :func:`norm_relu_conv1x1`: the normalised activation, and its convolution."""
    z = norm_relu_reference(x, weight, bias, running_mean, running_var, residual, True, training, momentum, eps)
    return z, F.conv2d(z, conv_weight)


def norm_relu_conv1x1(
    before: Pending, conv_weight: Tensor, moments: bool = True, keep: bool = True, prologue: bool = False
) -> tuple[Tensor | None, Tensor, Tensor]:
    """``z = relu(norm(y) + residual)`` and its 1x1 convolution, by kernels.

    Args:
        before: what is to be done first.
        conv_weight: ``[K, C, 1, 1]``, of any float type.
        moments: also return those of parts of the output.
        keep: return ``z`` too, for others that read it. Where there is a residual it is always stored.
        prologue: normalise on the way into the matrix product; else in a pass before it.

    Returns:
        ``z`` or None, the raw output ``[N, K, H, W]``, and fp32 ``[parts, 3, K]`` or nothing in it.
        Differentiable in all of ``before`` but its statistics, and in ``conv_weight``.
    """
    keep = keep or before.residual is not None
    apply = _Eager.apply if is_eager(before.y) else _norm_relu_conv1x1
    z, y, parts = apply(
        *(before.y, before.shortcut(), before.mean, before.variance, before.weight, before.bias, before.eps),
        *(before.batch, conv_weight, moments, keep, prologue),
    )
    return (z if keep else None), y, parts


def conv1x1_bn(
    x: Tensor | Pending,
    conv_weight: Tensor,
    bn_weight: Tensor,
    bn_bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    *,
    stride: int = 1,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    keep: bool = True,
    prologue: bool = False,
) -> tuple[Tensor | None, Pending]:
    """A 1x1 convolution and the statistics of the BatchNorm after it, which is left pending.

    Args:
        x: ``[N, C, H, W]``, or what is to be done to have it; C and K multiples of 8 (fp32: 4).
        conv_weight: ``[K, C, 1, 1]``, of any float type; its gradient has its own.
        bn_weight, bn_bias, running_mean, running_var: ``[K]``. With ``training`` the batch's statistics normalise, and
            move the running ones by ``momentum``.
        stride: of the convolution; 2 only where ``x`` is a tensor.
        keep, prologue: as of :func:`norm_relu_conv1x1`, where ``x`` is pending.

    Returns:
        What the convolution read (None unless ``keep``), and its output, pending.
    """
    if isinstance(x, Pending):
        assert stride == 1
        z, y, parts = norm_relu_conv1x1(x, conv_weight, training, keep, prologue)
    else:
        z = x
        y, parts = conv_branches(x[:, :, ::stride, ::stride], [conv_weight], [0], training)
    return z, pending(y, parts, bn_weight, bn_bias, running_mean, running_var, training, momentum, eps)


def _empty_outputs(x: Tensor, conv_weight: Tensor, moments: bool) -> tuple[Tensor, Tensor]:
    n, _, h, w = x.shape
    channels = conv_weight.shape[0]
    parts = (PixelMap(1, n * h * w, 1).tiles, 3, channels) if moments else (0,)
    return empty_like_rows(x, channels), x.new_empty(parts, dtype=torch.float32)


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
    moments: bool,
    keep: bool,
    prologue: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    from .triton import conv as conv_kernels
    from .triton import conv1x1_norm as kernels
    from .triton import norm_relu as norm_kernels

    rows, w = as_rows(x), _matrix(conv_weight, x.dtype)
    others = None if residual is None else as_rows(residual.to(x.dtype), x)
    y, parts = _empty_outputs(x, conv_weight, moments)
    z = empty_like_rows(x) if keep or not prologue else x.new_empty(0)
    constants = (mean, variance, weight, bias, eps, True)
    if prologue:
        b_z = as_rows(z) if keep else None
        tile = choose(CONV_NORM_FP32 if chip.is_wide(x) else CONV_NORM, w.shape[0])
        kernels.conv1x1_norm(rows, others, b_z, w, as_rows(y), *constants, parts if moments else None, tile)
    else:
        norm_kernels.norm_relu(rows, others, *constants, as_rows(z))
        b_z, b_y = as_rows(z)[None, :, None], as_rows(y)[None, :, None]
        map_ = PixelMap(1, rows.shape[0], 1)
        best = best_tile(FORWARD, x, w.shape[1], w.shape[0], (0,), map_)
        conv_kernels.conv(b_z, w[None], b_y, map_, [conv_kernels.SINGLE], parts=parts if moments else None, tile=best)
    return z, y, parts


def _matrix(conv_weight: Tensor, dtype: torch.dtype) -> Tensor:
    return conv_weight.flatten(1).to(dtype).contiguous()


_norm_relu_conv1x1 = torch.library.custom_op("deeplab_fast::norm_relu_conv1x1", _forward, mutates_args=())


@_norm_relu_conv1x1.register_fake
def _(x, residual, mean, variance, weight, bias, eps, batch, conv_weight, moments, keep, prologue):  # type: ignore[no-untyped-def]
    z = empty_like_rows(x) if keep or not prologue else x.new_empty(0)
    return z, *_empty_outputs(x, conv_weight, moments)


def _gradients(
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
    has_residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of ``x``, the residual (empty where there is none), BatchNorm's weight and bias, and the convolution's.

    ``dz``: of ``z``, from others that read it. ``z`` is empty where forward did not store it.
    """
    from .triton import conv1x1_norm as kernels
    from .triton import norm_relu as norm_kernels

    b_x, b_dy, w = as_rows(x), as_rows(dy, x), _matrix(conv_weight, x.dtype)
    stored = z.numel() > 0
    b_z = as_rows(z if stored else empty_like_rows(x), x)
    added = None if dz is None else as_rows(dz, x)
    gradient, dx = empty_like_rows(x), empty_like_rows(x)
    parts = x.new_empty(PixelMap(1, b_x.shape[0], 1).tiles, 2, x.shape[1], dtype=torch.float32)
    constants = (mean, variance, weight, bias, eps)
    kernels.conv1x1_norm_backward(
        *(b_dy, w, added, b_x, b_z if has_residual else None, as_rows(gradient), None if stored else b_z),
        *(mean, variance, weight, bias, eps, True, parts),
        _backward_tile(x, w, stored),
    )
    sums = norm_kernels.add_parts(parts)
    count = float(b_x.shape[0]) if batch else None
    norm_kernels.norm_relu_backward(as_rows(gradient), b_x, None, *constants, False, sums, count, as_rows(dx), None)
    dweight = matrix_gradient(b_dy, b_z).view(conv_weight.shape).to(conv_weight.dtype)
    dresidual = gradient if has_residual else x.new_empty(0)
    return dx, dresidual, sums[1].to(weight.dtype), sums[0].to(bias.dtype), dweight


def _backward_tile(x: Tensor, w: Tensor, stored: bool) -> ConvTile:
    if chip.is_wide(x):
        return choose(CONV_NORM_FP32, x.shape[1])
    if not stored:
        return choose(CONV_NORM_BACKWARD_Z, x.shape[1])
    map_ = PixelMap(1, x.numel() // x.shape[1], 1)
    return best_tile(NORM_GRADIENT, x, w.shape[1], w.shape[0], (0,), map_) or choose(CONV_NORM_BACKWARD, x.shape[1])


_norm_relu_conv1x1_backward = torch.library.custom_op(
    "deeplab_fast::norm_relu_conv1x1_backward", _gradients, mutates_args=()
)


@_norm_relu_conv1x1_backward.register_fake
def _(dz, dy, x, z, mean, variance, weight, bias, eps, batch, conv_weight, has_residual):  # type: ignore[no-untyped-def]
    dresidual = empty_like_rows(x) if has_residual else x.new_empty(0)
    rest = (torch.empty_like(t, memory_format=torch.contiguous_format) for t in (weight, bias, conv_weight))
    return empty_like_rows(x), dresidual, *rest


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, residual, mean, variance, weight, bias, ctx.eps, ctx.batch, conv_weight, *_ = inputs
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
    gradients = _gradients if is_eager(dy) else _norm_relu_conv1x1_backward
    dx, dresidual, dweight, dbias, dconv = gradients(
        *(dz, dy, x, z, mean, variance, weight, bias, ctx.eps, ctx.batch, conv_weight, ctx.has_residual)
    )
    dresidual = dresidual.to(ctx.residual_type) if ctx.has_residual else None
    return dx, dresidual, None, None, dweight, dbias, None, None, dconv, None, None, None


_norm_relu_conv1x1.register_autograd(_backward, setup_context=_setup_context)


class _Eager(torch.autograd.Function):
    forward = staticmethod(_forward)
    setup_context = staticmethod(_setup_context)
    backward = staticmethod(torch.autograd.function.once_differentiable(_backward))  # type: ignore[assignment]
