"""Atrous spatial pyramid pooling with image-level features (Chen et al., arXiv 1706.05587, section 3.3)."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from deeplab_fast.ops import aspp

from .batch_norm import BatchNorm2d
from .convolve import AtrousConv2d
from .layers import ConvNormRelu, Dropout

CHANNELS = 256


class ImagePooling(nn.Sequential):
    """Global average, 1x1 convolution, BatchNorm, ReLU, spread over the map; ``[N, C, H, W]`` -> ``[N, 256, H, W]``."""

    def __init__(self, cin: int) -> None:
        conv = nn.Conv2d(cin, CHANNELS, 1, bias=False)
        super().__init__(nn.AdaptiveAvgPool2d(1), conv, BatchNorm2d(CHANNELS), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N, 256, H, W]`` of ``[N, C, H, W]``."""
        pool, conv, norm, _ = self
        return norm(conv(pool(x)), relu=True).expand(-1, -1, *x.shape[-2:])


class ASPP(nn.Module):
    """Parallel 1x1 and atrous 3x3 convolutions and image pooling, concatenated and projected.

    ``[N, cin, H, W]`` -> ``[N, 256, H, W]``. Keys are those of ``torchvision...deeplabv3.ASPP``.
    """

    def __init__(self, cin: int, rates: Sequence[int], dropout: float) -> None:
        super().__init__()
        branches: list[nn.Module] = [ConvNormRelu(nn.Conv2d(cin, CHANNELS, 1, bias=False))]
        for rate in rates:
            conv = AtrousConv2d(cin, CHANNELS, 3, padding=rate, dilation=rate, bias=False)
            branches.append(ConvNormRelu(conv))
        branches.append(ImagePooling(cin))
        self.convs = nn.ModuleList(branches)
        project = nn.Conv2d(len(branches) * CHANNELS, CHANNELS, 1, bias=False)
        self.project = ConvNormRelu(project, Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N, 256, H, W]`` of ``[N, cin, H, W]``."""
        branches = [cast(ConvNormRelu, branch) for branch in self.convs[:-1]]
        weights, norms = [branch.conv.weight for branch in branches], [branch.norm for branch in branches]
        rates = [branch.conv.dilation[0] if branch.conv.kernel_size[0] == 3 else 0 for branch in branches]
        if norms[0].sync:
            return self.project(torch.cat([branch(x) for branch in self.convs], dim=1))
        _, pool_conv, pool_norm, _ = cast(Iterable[Any], self.convs[-1])
        training = [norm.begin_batch(x.numel() // x.shape[1]) for norm in norms]
        joined = aspp(
            x,
            weights,
            rates,
            [norm.params() for norm in norms],
            pool_conv.weight,
            pool_norm.params(),
            training=training[0],
            pool_training=pool_norm.begin_batch(x.shape[0]),
            momentum=pool_norm.momentum,
            eps=pool_norm.eps,
            fused=pool_norm.fused,
        )
        return self.project(joined)
