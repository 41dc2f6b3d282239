"""3x3 atrous convolution that leaves out the taps which can only read padding."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .conv_by_taps import conv_by_taps, prefers_taps
from .weight_copies import copied


def as_type_of(weight: Tensor, x: Tensor) -> Tensor:
    """Return a convolution's weight ``[K, C, h, w]`` in the type of ``x``, or as it is where autocast sees to both."""
    if torch.is_autocast_enabled(x.device.type):
        return copied(weight, product_dtype(x))
    return weight.to(x.dtype)


def product_dtype(x: Tensor) -> torch.dtype:
    """Return the type that a convolution of ``x`` (any shape) multiplies in: autocast's, or that of ``x``."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def atrous_conv2d_reference(x: Tensor, weight: Tensor, stride: Sequence[int], dilation: Sequence[int]) -> Tensor:
    """Specify ``[N, Cin, H, W]`` * ``[Cout, Cin, 3, 3]`` -> ``[N, Cout, ceil(H/stride), ceil(W/stride)]``.

    Padding equals the dilation on each axis.
    """
    return F.conv2d(x, weight, None, tuple(stride), tuple(dilation), tuple(dilation))


def atrous_conv2d(x: Tensor, weight: Tensor, stride: Sequence[int], dilation: Sequence[int]) -> Tensor:
    """Return the same values ``[N, Cout, H', W']`` with less work on small maps.

    On a CPU, taps that hang far over the edge go by :mod:`~deeplab_fast.ops.conv.conv_by_taps`. Elsewhere, where the
    rate is no smaller than the map, the outer taps of that axis read zeros for every output: only the centre tap is
    kept (rate 18 on a 17x17 map is a 1x1 convolution, one ninth of the arithmetic). The outer taps' gradient is
    then zero, as it is in the reference. An exported network keeps all taps: its maps are of any size.
    """
    if torch.compiler.is_exporting():
        return atrous_conv2d_reference(x, weight, stride, dilation)
    dtype, rate = product_dtype(x), dilation[0]
    if tuple(stride) == (1, 1) and tuple(dilation) == (rate, rate) and prefers_taps(x, rate, dtype):
        return conv_by_taps(x, weight, rate, dtype)
    padding = list(dilation)
    for axis in (0, 1):
        if dilation[axis] >= x.shape[2 + axis]:
            weight = weight.narrow(2 + axis, 1, 1)
            padding[axis] = 0
    return F.conv2d(x, weight, None, tuple(stride), tuple(padding), tuple(dilation))
