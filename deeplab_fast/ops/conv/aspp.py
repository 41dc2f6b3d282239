"""Atrous spatial pyramid pooling (Chen et al., arXiv 1706.05587, section 3.3) as one op.

The 1x1 and the atrous 3x3 convolutions of the same input run in one persistent launch, the longest tiles first, into
their concatenation; backward the gradient of the input is one product over all their taps. One pass normalises
all of them. The image-pooling branch is small: torch's operations.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..dispatch import is_inference, use_kernels
from ..layout import PIXEL_MAJOR
from ..norm.batch_norm_stats import merge_stats_and_update_running
from ..norm.norm_relu import norm_relu, normalize_relu
from ..norm.params import NormConstants, NormParams
from .atrous_conv import as_type_of, atrous_conv2d
from .folded_conv import can_fold_bn, folded_conv
from .measurements import reason_for_library
from .parallel_convs import parallel_convs, parallel_convs_scaled, supports


def aspp(
    x: Tensor,
    weights: Sequence[Tensor],
    rates: Sequence[int],
    norms: Sequence[NormParams],
    pool_weight: Tensor,
    pool_norm: NormParams,
    *,
    training: bool = True,
    pool_training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    fused: str = "auto",
) -> Tensor:
    """Return the branches of ASPP, each convolution, batch normalisation and ReLU, concatenated.

    Args:
        x: ``[N, C, H, W]``, as for :func:`~deeplab_fast.ops.atrous_conv_bn_relu`.
        weights: for each convolution ``[K, C, 3, 3]``, or ``[K, C, 1, 1]`` where its rate is 0.
        rates: distance of each convolution's taps in pixels; 0 for 1x1.
        norms: of each convolution. With ``training`` the batch normalises and the running statistics are moved; with
            ``pool_training`` those of ``pool_norm``.
        pool_weight, pool_norm: of the image-level branch, ``[K, C, 1, 1]``: global average, convolution, normalise,
            ReLU, spread over the map. At batch size 1 a channel is one value and has no variance: its running
            statistics then normalise and are left unchanged.
        fused: ``auto``, ``on`` or ``off``, see :func:`~deeplab_fast.ops.dispatch.use_kernels`.

    Returns:
        ``[N, (len(weights) + 1) * K, H, W]`` of ``x``'s dtype, pixel-major where the kernels run.

    Raises:
        UserError: ``fused`` is ``on`` and the kernels cannot run; says why.
    """

    def normalise(y: Tensor, norm: NormParams, training: bool, fused: str) -> Tensor:
        return norm_relu(y, *norm, training=training, momentum=momentum, eps=eps, fused=fused)

    pooled = F.conv2d(F.adaptive_avg_pool2d(x, 1), as_type_of(pool_weight, x))
    pooled = normalise(pooled, pool_norm, pool_training and x.shape[0] > 1, "off")
    reason = supports(x, weights)
    if reason is None and fused == "auto":
        reason = reason_for_library("aspp", x, weights[0].shape[0], rates)
    if not use_kernels("aspp", fused, x.device, reason):
        folded = can_fold_bn(x, training, fused)

        def branch(weight: Tensor, rate: int, norm: NormParams) -> Tensor:
            if folded:
                return folded_conv(x, weight, *norm, padding=(rate, rate), dilation=(rate or 1,) * 2, eps=eps)
            weight = as_type_of(weight, x)
            y = atrous_conv2d(x, weight, (1, 1), (rate, rate)) if rate else F.conv2d(x, weight)
            return normalise(y, norm, training, fused)

        branches = [branch(*given) for given in zip(weights, rates, norms, strict=True)]
        return torch.cat([*branches, pooled.expand(-1, -1, *x.shape[2:])], 1)
    y = _normalised(x, weights, rates, norms, training, momentum, eps)
    # The concatenation in the order of the memory: torch.cat would store it channels-first.
    spread = pooled.permute(PIXEL_MAJOR).expand(*x.shape[2:], -1, -1)
    return torch.cat([y.permute(PIXEL_MAJOR), spread], 3).permute(PIXEL_MAJOR)


def _normalised(
    x: Tensor,
    weights: Sequence[Tensor],
    rates: Sequence[int],
    norms: Sequence[NormParams],
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """Compute the convolution branches, by kernels."""
    weight, bias = (torch.cat([norm[i] for norm in norms]) for i in range(2))
    if training:
        y, parts = parallel_convs(x, weights, rates)
        moments = [
            merge_stats_and_update_running(part, norm.running_mean, norm.running_var, momentum)
            for part, norm in zip(parts.split(weights[0].shape[0], dim=2), norms, strict=True)
        ]
        mean, variance = (torch.cat(values) for values in zip(*moments, strict=True))
    else:
        mean, variance = (torch.cat([norm[i] for norm in norms]) for i in (2, 3))
        if is_inference(training):
            scale = weight.float() * torch.rsqrt(variance + eps)
            return parallel_convs_scaled(x, weights, rates, scale, bias.float() - mean * scale, True)
        y, _ = parallel_convs(x, weights, rates, moments=False)
    return normalize_relu(y, NormConstants(mean, variance, weight, bias, eps), None, True, training)
