"""Convolutions between batch normalisations: what a residual network's bottleneck is made of.

A convolution's raw output is not normalised where it is made, but where it is read:
a :class:`~deeplab_fast.ops.norm.deferred.DeferredNorm` carries it with its statistics to the next operation. The
convolution is
1x1, where ``rate`` is 0, or 3x3 with its taps so far apart.
"""

from torch import Tensor

from ..norm.deferred import DeferredNorm, defer_norm
from .conv_moments import conv_moments
from .norm_relu_conv import norm_relu_conv


def conv_bn(
    x: Tensor | DeferredNorm,
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
) -> tuple[Tensor | None, DeferredNorm]:
    """Run a convolution and leave the BatchNorm after it deferred, its statistics taken.

    Args:
        x: ``[N, C, H, W]``, or what is to be done to have it; see :func:`deeplab_fast.ops.conv.gemm.supports`.
        conv_weight: ``[K, C, 1, 1]``, or with a ``rate`` ``[K, C, 3, 3]``, of any float type; its gradient has its own.
        bn_weight, bn_bias, running_mean, running_var: ``[K]``. With ``training`` the batch's statistics normalise, and
            move the running ones by ``momentum``.
        stride: of the convolution; 2 only where ``x`` is a tensor.
        keep, again, rate: as of :func:`norm_relu_conv`, where ``x`` is deferred; else ``rate`` is 0.

    Returns:
        What the convolution read (None unless ``keep``), and its output, deferred.
    """
    if isinstance(x, DeferredNorm):
        assert stride == 1
        z, y, parts = norm_relu_conv(x, conv_weight, training, keep, again, rate)
    else:
        assert rate == 0
        z = x
        y, parts = conv_moments(x[:, :, ::stride, ::stride], conv_weight, training)
    return z, defer_norm(y, parts, bn_weight, bn_bias, running_mean, running_var, training, momentum, eps)
