"""3x3 atrous convolution, batch normalisation and ReLU: ``relu(batch_norm(conv2d(x)))`` at any rate, stride 1.

Taps that read only padding are left out, tile by tile; in training the convolution leaves the moments of its output
behind, so that the normalisation need not read it for them; in inference all three are one launch.
"""

import torch
from torch import Tensor

from ..dispatch import is_inference, use_kernels
from ..norm.deferred import DeferredNorm, defer_norm
from ..norm.norm_relu import norm_relu, norm_relu_reference
from .atrous_conv import as_type_of, atrous_conv2d
from .measurements import reason_for_library
from .parallel_convs import parallel_convs, parallel_convs_reference, parallel_convs_scaled, supports


def atrous_conv_bn_relu_reference(
    x: Tensor,
    weight: Tensor,
    bn_weight: Tensor,
    bn_bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    rate: int,
    relu: bool,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """Specify :func:`atrous_conv_bn_relu`, ``[N, C, H, W]`` to ``[N, K, H, W]``, by torch's operations."""
    y = parallel_convs_reference(x, [weight], [rate])
    return norm_relu_reference(y, bn_weight, bn_bias, running_mean, running_var, None, relu, training, momentum, eps)


def atrous_conv_bn_relu(
    x: Tensor,
    weight: Tensor,
    bn_weight: Tensor,
    bn_bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    *,
    rate: int = 1,
    relu: bool = True,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    fused: str = "auto",
) -> Tensor:
    """Return ``relu(batch_norm(conv2d(x, weight, padding=rate, dilation=rate)))``.

    Args:
        x: ``[N, C, H, W]``, fp16 or bf16 where the kernels run (fp32 too, slowly, for ``on``), C and K multiples of 8.
            Best stored pixel-major, as this op returns it; else it is copied so.
        weight: ``[K, C, 3, 3]``, of any float type; the convolution takes it in ``x``'s, its gradient has its own.
        bn_weight, bn_bias: ``[K]``, fp32 or as ``x``.
        running_mean, running_var: fp32 ``[K]``. With ``training`` they are moved by ``momentum`` (the variance with
            n/(n-1)) and the batch's own statistics, of the values as they are stored, normalise; else they do.
        rate: distance of the taps in pixels, at least 1; it may be larger than the map.
        fused: ``auto``, ``on`` or ``off``, see :func:`~deeplab_fast.ops.dispatch.use_kernels`.

    Returns:
        ``[N, K, H, W]`` of ``x``'s dtype, pixel-major where the kernels run. Differentiable in ``x``, ``weight``,
        ``bn_weight`` and ``bn_bias``. Sums are fp32.

    Raises:
        UserError: ``fused`` is ``on`` and the kernels cannot run; says why.
    """
    norm = bn_weight, bn_bias, running_mean, running_var
    reason = supports(x, [weight])
    if reason is None and fused == "auto":
        reason = reason_for_library("atrous_conv_bn_relu", x, weight.shape[0], [rate])
    if not use_kernels("atrous_conv_bn_relu", fused, x.device, reason):
        y = atrous_conv2d(x, as_type_of(weight, x), (1, 1), (rate, rate))
        return norm_relu(y, *norm, relu=relu, training=training, momentum=momentum, eps=eps, fused=fused)
    if is_inference(training):
        scale = bn_weight.float() * torch.rsqrt(running_var + eps)
        return parallel_convs_scaled(x, [weight], [rate], scale, bn_bias.float() - running_mean * scale, relu)
    return atrous_conv_bn(x, weight, *norm, rate=rate, training=training, momentum=momentum, eps=eps).apply(relu)


def atrous_conv_bn(
    x: Tensor,
    weight: Tensor,
    bn_weight: Tensor,
    bn_bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    *,
    rate: int,
    training: bool,
    momentum: float,
    eps: float,
) -> DeferredNorm:
    """Return the convolution ``[N, K, H, W]`` and its statistics, by kernels; who reads it normalises it."""
    y, parts = parallel_convs(x, [weight], [rate], moments=training)
    return defer_norm(y, parts, bn_weight, bn_bias, running_mean, running_var, training, momentum, eps)
