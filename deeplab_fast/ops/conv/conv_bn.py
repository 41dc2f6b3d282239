"""Convolutions between batch normalisations: what a residual network's bottleneck is made of.

A convolution's raw output is not normalised where it is made, but where it is read: a
:class:`~deeplab_fast.ops.norm.pending.Pending` carries it with its statistics to the next operation. So the op here is
*normalise (+ residual) + ReLU + convolution + moments of the output*, and its backward holds in the epilogue of one
matrix product what otherwise are passes over the activation: the residual path's gradient, the ReLU's mask and the
sums of the normalisation's gradient. The convolution is 1x1, where ``rate`` is 0, or 3x3 with its taps so far apart.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..layout import CHANNELS_LAST, as_rows, empty_like_rows, from_rows, is_pixel_major
from ..norm.batch_moments import is_eager
from ..norm.norm_relu import norm_relu_reference
from ..norm.pending import Pending, pending
from . import gemm
from .weight_copies import in_type


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
    """The specification of :func:`norm_relu_conv`: the normalised activation, and its convolution."""
    z = norm_relu_reference(x, weight, bias, running_mean, running_var, residual, True, training, momentum, eps)
    return z, F.conv2d(z, conv_weight, padding=rate, dilation=max(rate, 1))


def norm_relu_conv(
    before: Pending,
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
    if isinstance(before.residual, Pending) and before.is_pair():
        return _EagerPair.apply(*before.own(), *before.residual.own(), before.eps, conv_weight, moments)
    keep = keep or before.residual is not None
    apply = _Eager.apply if is_eager(before.y) else _norm_relu_conv
    z, y, parts = apply(
        *(before.y, before.shortcut(), before.mean, before.variance, before.weight, before.bias, before.eps),
        *(before.batch, conv_weight, rate, moments, again and not keep),
    )
    return (z if keep else None), y, parts


def conv_moments(x: Tensor, conv_weight: Tensor, moments: bool = True) -> tuple[Tensor, Tensor]:
    """Return the 1x1 convolution of ``x`` ``[N, C, H, W]``, raw, and fp32 ``[parts, 3, K]``, or nothing in it.

    ``conv_weight``: ``[K, C, 1, 1]``, of any float type. Differentiable in both; parts carry no gradient.
    """
    apply = _EagerConv.apply if is_eager(x) else _conv_moments
    y, parts = apply(x, conv_weight, moments)
    return y, parts


def conv_bn(
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
    again: bool = False,
    rate: int = 0,
) -> tuple[Tensor | None, Pending]:
    """Run a convolution and leave the BatchNorm after it pending, its statistics taken.

    Args:
        x: ``[N, C, H, W]``, or what is to be done to have it; see :func:`deeplab_fast.ops.conv.gemm.supports`.
        conv_weight: ``[K, C, 1, 1]``, or with a ``rate`` ``[K, C, 3, 3]``, of any float type; its gradient has its own.
        bn_weight, bn_bias, running_mean, running_var: ``[K]``. With ``training`` the batch's statistics normalise, and
            move the running ones by ``momentum``.
        stride: of the convolution; 2 only where ``x`` is a tensor.
        keep, again, rate: as of :func:`norm_relu_conv`, where ``x`` is pending; else ``rate`` is 0.

    Returns:
        What the convolution read (None unless ``keep``), and its output, pending.
    """
    if isinstance(x, Pending):
        assert stride == 1
        z, y, parts = norm_relu_conv(x, conv_weight, training, keep, again, rate)
    else:
        assert rate == 0
        z = x
        y, parts = conv_moments(x[:, :, ::stride, ::stride], conv_weight, training)
    return z, pending(y, parts, bn_weight, bn_bias, running_mean, running_var, training, momentum, eps)


def _matrix(conv_weight: Tensor, dtype: torch.dtype) -> Tensor:
    """``[K, C]`` of a 1x1 convolution, ``[K, 3, 3, C]`` of a 3x3; no copy but for the type of channels-last weights."""
    weight = in_type(conv_weight, dtype).permute(CHANNELS_LAST).contiguous()
    return weight.flatten(1) if weight.shape[1] == 1 else weight


def _weight_gradient(dy: Tensor, x: Tensor, conv_weight: Tensor, window: gemm.Window | None) -> Tensor:
    """From rows, in the shape and type of ``conv_weight``, stored channels-last."""
    k, c, height, width = conv_weight.shape
    dweight = gemm.weight_gradient(dy, x, window).view(k, height, width, c)
    return dweight.permute(0, 3, 1, 2).to(conv_weight.dtype)


def _as_map(rows: Tensor, like: Tensor) -> Tensor:
    """Return ``rows`` ``[N*H*W, K]`` as ``[N, K, H, W]``, their order that of ``like``."""
    n, _, h, w = like.shape
    return from_rows(rows, n, h, w, is_pixel_major(like))


def _empty_channels_last(conv_weight: Tensor) -> Tensor:
    k, c, height, width = conv_weight.shape
    return conv_weight.new_empty(k, height, width, c).permute(0, 3, 1, 2)


def _convolve(x: Tensor, conv_weight: Tensor, moments: bool, rate: int = 0) -> tuple[Tensor, Tensor]:
    """The convolution of a map, in its order, and the moments of its parts or nothing."""
    rows, w, window = as_rows(x), _matrix(conv_weight, x.dtype), gemm.Window.of(x, rate)
    if moments or rate:
        y, parts = gemm.product(rows, w, window)
    else:
        y = torch.mm(rows, w.t())
    return _as_map(y, x), parts if moments else x.new_empty(0, dtype=torch.float32)


def _empty_outputs(x: Tensor, conv_weight: Tensor, moments: bool) -> tuple[Tensor, Tensor]:
    n, _, h, w = x.shape
    channels = conv_weight.shape[0]
    parts = (gemm.parts_of(n * h * w), 3, channels) if moments else (0,)
    return empty_like_rows(x, channels), x.new_empty(parts, dtype=torch.float32)


# ---------------------------------------------------------------- of a tensor


def _conv_forward(x: Tensor, conv_weight: Tensor, moments: bool) -> tuple[Tensor, Tensor]:
    return _convolve(x, conv_weight, moments)


_conv_moments = torch.library.custom_op("deeplab_fast::conv_moments", _conv_forward, mutates_args=())


@_conv_moments.register_fake
def _(x, conv_weight, moments):  # type: ignore[no-untyped-def]
    return _empty_outputs(x, conv_weight, moments)


def _conv_gradients(dy: Tensor, x: Tensor, conv_weight: Tensor, with_x: bool) -> tuple[Tensor, Tensor]:
    """Gradients of ``x`` (empty unless asked for) and of the weights."""
    rows, b_dy = as_rows(x), as_rows(dy, x)
    dweight = _weight_gradient(b_dy, rows, conv_weight, None)
    if not with_x:
        return x.new_empty(0), dweight
    return _as_map(torch.mm(b_dy, _matrix(conv_weight, x.dtype)), x), dweight


_conv_moments_backward = torch.library.custom_op(
    "deeplab_fast::conv_moments_backward", _conv_gradients, mutates_args=()
)


@_conv_moments_backward.register_fake
def _(dy, x, conv_weight, with_x):  # type: ignore[no-untyped-def]
    dweight = _empty_channels_last(conv_weight)
    return empty_like_rows(x) if with_x else x.new_empty(0), dweight


def _setup_conv(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, conv_weight, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, conv_weight)


def _conv_backward(ctx, dy, _):  # type: ignore[no-untyped-def]
    x, conv_weight = ctx.saved_tensors
    if dy is None:
        return None, None, None
    gradients = _conv_gradients if is_eager(dy) else _conv_moments_backward
    dx, dweight = gradients(dy, x, conv_weight, ctx.needs_input_grad[0])
    return dx if ctx.needs_input_grad[0] else None, dweight, None


_conv_moments.register_autograd(_conv_backward, setup_context=_setup_conv)


class _EagerConv(torch.autograd.Function):
    forward = staticmethod(_conv_forward)
    setup_context = staticmethod(_setup_conv)
    backward = staticmethod(torch.autograd.function.once_differentiable(_conv_backward))  # type: ignore[assignment]


# ---------------------------------------------------------------- of what is to be normalised first


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
    return x.new_empty(0) if again else z, *_convolve(z, conv_weight, moments, rate)


def _normalised(
    x: Tensor, residual: Tensor | None, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> Tensor:
    from ..norm.triton import norm_relu as kernels

    z = empty_like_rows(x)
    others = None if residual is None else as_rows(residual.to(x.dtype), x)
    kernels.norm_relu(as_rows(x), others, mean, variance, weight, bias, eps, True, as_rows(z))
    return z


_norm_relu_conv = torch.library.custom_op("deeplab_fast::norm_relu_conv", _forward, mutates_args=())


@_norm_relu_conv.register_fake
def _(x, residual, mean, variance, weight, bias, eps, batch, conv_weight, rate, moments, again):  # type: ignore[no-untyped-def]
    z = x.new_empty(0) if again else empty_like_rows(x)
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
    rate: int,
    has_residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of ``x``, the residual (empty where there is none), BatchNorm's weight and bias, and the convolution's.

    ``dz``: of ``z``, from others that read it. ``z`` is empty where forward did not keep it.
    """
    from ..norm.triton import norm_relu as kernels

    z = z if z.numel() else _normalised(x, None, mean, variance, weight, bias, eps)
    b_x, b_dy, b_z, w = as_rows(x), as_rows(dy, x), as_rows(z, x), _matrix(conv_weight, x.dtype)
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
    dweight = _weight_gradient(b_dy, b_z, conv_weight, window)
    dresidual = _as_map(gradient, x) if has_residual else x.new_empty(0)
    return dx, dresidual, sums[1].to(weight.dtype), sums[0].to(bias.dtype), dweight


_norm_relu_conv_backward = torch.library.custom_op("deeplab_fast::norm_relu_conv_backward", _gradients, mutates_args=())


@_norm_relu_conv_backward.register_fake
def _(dz, dy, x, z, mean, variance, weight, bias, eps, batch, conv_weight, rate, has_residual):  # type: ignore[no-untyped-def]
    dresidual = empty_like_rows(x) if has_residual else x.new_empty(0)
    vectors = torch.empty_like(weight), torch.empty_like(bias)
    return empty_like_rows(x), dresidual, *vectors, _empty_channels_last(conv_weight)


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
    gradients = _gradients if is_eager(dy) else _norm_relu_conv_backward
    dx, dresidual, dweight, dbias, dconv = gradients(
        *(dz, dy, x, z, mean, variance, weight, bias, ctx.eps, ctx.batch, conv_weight, ctx.rate, ctx.has_residual)
    )
    dresidual = dresidual.to(ctx.residual_type) if ctx.has_residual else None
    return dx, dresidual, None, None, dweight, dbias, None, None, dconv, None, None, None


_norm_relu_conv.register_autograd(_backward, setup_context=_setup_context)


class _Eager(torch.autograd.Function):
    forward = staticmethod(_forward)
    setup_context = staticmethod(_setup_context)
    backward = staticmethod(torch.autograd.function.once_differentiable(_backward))  # type: ignore[assignment]


# ---------------------------------------------------------------- of two normalisations, added


class _EagerPair(torch.autograd.Function):
    """Convolves a block's output whose shortcut has a convolution: see ``norm_pair.py``."""

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        x, mean, variance, weight, bias, batch, x2, mean2, variance2, weight2, bias2, batch2, eps, conv_weight, moments
    ):
        from ..norm.triton import norm_relu as kernels

        z = empty_like_rows(x)
        constants, second = (mean, variance, weight, bias, eps), (mean2, variance2, weight2, bias2)
        kernels.norm_relu(as_rows(x), as_rows(x2, x), *constants, True, as_rows(z), second)
        return z, *_convolve(z, conv_weight, moments)

    @staticmethod
    def setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
        *tensors, ctx.eps, conv_weight, _ = inputs
        ctx.batches = tensors.pop(5), tensors.pop(10)
        ctx.mark_non_differentiable(output[2])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, conv_weight, output[0])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dz, dy, _):  # type: ignore[no-untyped-def]
        from ..norm.triton import norm_relu as kernels

        x, mean, variance, weight, bias, x2, mean2, variance2, weight2, bias2, conv_weight, z = ctx.saved_tensors
        if dy is None:  # only z was used
            dy = x.new_zeros(x.shape[0], conv_weight.shape[0], *x.shape[2:])
        dz = torch.zeros_like(z) if dz is None else dz
        b_x, b_x2, b_z, b_dy = as_rows(x), as_rows(x2, x), as_rows(z, x), as_rows(dy, x)
        first, second = (mean, variance, weight, bias, ctx.eps), (mean2, variance2, weight2, bias2, ctx.eps)
        w = _matrix(conv_weight, x.dtype)
        gradient, parts = gemm.norm_gradient(b_dy, w, gemm.NormInput(b_x, *first), as_rows(dz, x), b_z)
        sums, sums2 = kernels.add_parts(parts), kernels.norm_relu_sums(gradient, b_x2, None, *second, False)
        dx, dx2 = empty_like_rows(x), empty_like_rows(x)
        for given, constants, of, batch, out in (
            (b_x, first, sums, ctx.batches[0], dx),
            (b_x2, second, sums2, ctx.batches[1], dx2),
        ):
            count = float(b_x.shape[0]) if batch else None
            kernels.norm_relu_backward(gradient, given, None, *constants, False, of, count, as_rows(out), None)
        dconv = _weight_gradient(b_dy, b_z, conv_weight, None)
        own = (dx, None, None, sums[1].to(weight.dtype), sums[0].to(bias.dtype), None)
        other = (dx2, None, None, sums2[1].to(weight2.dtype), sums2[0].to(bias2.dtype), None)
        return *own, *other, None, dconv, None
