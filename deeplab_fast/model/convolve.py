"""A convolution module by the library, from what the step has at hand: copies of weights, pixel-major maps."""

from torch import Tensor, nn
from torch.nn import functional as F

from deeplab_fast.ops import use_kernels
from deeplab_fast.ops.conv.atrous_conv import atrous_conv2d, product_dtype
from deeplab_fast.ops.conv.measurements import CONV1X1
from deeplab_fast.ops.conv.route import kind_of
from deeplab_fast.ops.conv.stem_conv import stem_conv
from deeplab_fast.ops.conv.stem_conv import supports as stem_supports
from deeplab_fast.ops.conv.weight_copies import copied
from deeplab_fast.ops.layout import as_rows, is_pixel_major


class AtrousConv2d(nn.Conv2d):
    """``torch.nn.Conv2d`` with ``padding = dilation`` that does not compute taps that see only padding."""

    def forward(self, input: Tensor) -> Tensor:
        """Return ``[N, K, ceil(H / stride), ceil(W / stride)]`` of ``[N, C, H, W]``."""
        weight = copied(self.weight, product_dtype(input))
        return atrous_conv2d(input, weight, self.stride, self.dilation)


def convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Return ``conv(x)`` ``[N, K, H', W']``; a 1x1 one of a pixel-major map, to which pixels are images, not copied."""
    if isinstance(conv, AtrousConv2d):
        return conv(x)
    weight = copied(conv.weight, product_dtype(x))
    if kind_of(conv) != CONV1X1 or conv.stride != (1, 1) or not is_pixel_major(x):
        return conv(x) if weight is conv.weight else conv._conv_forward(x, weight, conv.bias)
    n, c, h, w = x.shape
    y = F.conv2d(as_rows(x).view(h * w, n, 1, c).permute(0, 3, 1, 2), weight)
    return as_rows(y).view(h, w, n, -1).permute(2, 3, 0, 1)


def stem(conv: nn.Conv2d, x: Tensor, fused: str) -> Tensor:
    """Return ``conv(x)`` ``[N, 64, H/2, W/2]``; in training on a GPU from 2x2 pixels stored beside each other.

    There the interpreter does it too, where ``fused`` is ``on``.
    """
    assert isinstance(conv.padding, tuple)
    if stem_supports(x, conv.weight, conv.stride, conv.padding) or not use_kernels("stem_conv", fused, x.device, None):
        return convolve(conv, x)
    return stem_conv(x, copied(conv.weight, product_dtype(x)))
