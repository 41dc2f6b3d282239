"""ResNet backbones with atrous convolution: torchvision's keys and arithmetic, any output stride.

He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385; the stride of a
bottleneck sits in its 3x3 convolution, as in torchvision. Atrous stages and the multi-grid follow
Chen et al., arXiv 1706.05587, section 3.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from torch import Tensor, nn

from deeplab_fast.ops import DeferredNorm, materialize, pixel_major
from deeplab_fast.ops.conv import route
from deeplab_fast.ops.conv.route import Route

from .batch_norm import BatchNorm2d
from .convolve import AtrousConv2d


def conv3x3(cin: int, cout: int, stride: int, dilation: int) -> nn.Conv2d:
    return AtrousConv2d(cin, cout, 3, stride, padding=dilation, dilation=dilation, bias=False)


def conv1x1(cin: int, cout: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(cin, cout, 1, stride, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; ``[N, cin, H, W]`` -> ``[N, planes, H/stride, W/stride]``."""

    expansion = 1

    def __init__(self, cin: int, planes: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(cin, planes, stride, dilation)
        self.bn1 = BatchNorm2d(planes)
        self.conv2 = conv3x3(planes, planes, 1, dilation)
        self.bn2 = BatchNorm2d(planes)
        self.downsample = _shortcut(cin, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N, planes, H / stride, W / stride]``."""
        out = self.bn1.conv_norm(self.conv1, x, relu=True)
        return self.bn2.conv_norm(self.conv2, out, residual=_shortcut_of(self.downsample, x), relu=True)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut; ``[N, cin, H, W]`` -> ``[N, 4*planes, H/stride, W/stride]``."""

    expansion = 4

    def __init__(self, cin: int, planes: int, stride: int, dilation: int) -> None:
        super().__init__()
        cout = planes * self.expansion
        self.conv1 = conv1x1(cin, planes)
        self.bn1 = BatchNorm2d(planes)
        self.conv2 = conv3x3(planes, planes, stride, dilation)
        self.bn2 = BatchNorm2d(planes)
        self.conv3 = conv1x1(planes, cout)
        self.bn3 = BatchNorm2d(cout)
        self.downsample = _shortcut(cin, cout, stride)

    def forward(self, x: Tensor | DeferredNorm) -> Tensor | DeferredNorm:
        """Return ``[N, 4 * planes, H / stride, W / stride]``, its last normalisation deferred where kernels run."""
        if self.bn1.can_defer(x):
            return self._deferred(x)
        x = materialize(x)
        out = self.bn1.conv_norm(self.conv1, x, relu=True)
        out = self.bn2.conv_norm(self.conv2, out, relu=True)
        return self.bn3.conv_norm(self.conv3, out, residual=_shortcut_of(self.downsample, x), relu=True)

    def _deferred(self, x: Tensor | DeferredNorm) -> DeferredNorm:
        """Do the same by fused kernels: who reads a map normalises it, the last one the next block."""
        z, first = self.bn1.conv_then_defer(self.conv1, x)
        assert z is not None
        _, second = self.bn2.conv_then_defer(self.conv2, first, keep=False)
        _, third = self.bn3.conv_then_defer(self.conv3, second, keep=False)
        if self.downsample is None:
            return replace(third, residual=z)
        conv, norm = _parts(self.downsample)
        return replace(third, residual=norm.conv_then_defer(conv, z)[1])


def _shortcut(cin: int, cout: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and cin == cout:
        return None
    return nn.Sequential(conv1x1(cin, cout, stride), BatchNorm2d(cout))


def _parts(shortcut: nn.Sequential) -> tuple[nn.Conv2d, BatchNorm2d]:
    return cast(tuple[nn.Conv2d, BatchNorm2d], tuple(shortcut))


def _shortcut_of(shortcut: nn.Sequential | None, x: Tensor) -> Tensor:
    if shortcut is None:
        return x
    conv, norm = _parts(shortcut)
    return norm.conv_norm(conv, x)


@dataclass(frozen=True)
class Architecture:
    """The block of a ResNet, and how many of them each stage has."""

    block: type[BasicBlock] | type[Bottleneck]
    blocks: tuple[int, int, int, int]


# By --backbone: config/shared.py names the same.
ARCHITECTURES = {
    "resnet18": Architecture(BasicBlock, (2, 2, 2, 2)),
    "resnet34": Architecture(BasicBlock, (3, 4, 6, 3)),
    "resnet50": Architecture(Bottleneck, (3, 4, 6, 3)),
    "resnet101": Architecture(Bottleneck, (3, 4, 23, 3)),
}


@dataclass(frozen=True)
class Stage:
    """Stride of a stage's first block and the dilation of each of its blocks."""

    stride: int
    dilations: tuple[int, ...]


def recipe_stages(blocks: Sequence[int], output_stride: int, multi_grid: Sequence[int]) -> list[Stage]:
    """Return the recipe's stages: every block of an atrous stage dilated, layer4 by rate x multi-grid.

    At output stride 16 layer4 has rate 2 (dilations 2, 4, 8 with the grid 1, 2, 4); at 8 layer3 has
    rate 2 and layer4 rate 4. A stage longer than the grid repeats the grid's last entry.
    """
    rate3, rate4 = {16: (1, 2), 8: (2, 4)}[output_stride]
    grid = [multi_grid[min(i, len(multi_grid) - 1)] for i in range(blocks[3])]
    return [
        Stage(1, (1,) * blocks[0]),
        Stage(2, (1,) * blocks[1]),
        Stage(2 if rate3 == 1 else 1, (rate3,) * blocks[2]),
        Stage(1, tuple(rate4 * g for g in grid)),
    ]


def torchvision_stages(blocks: Sequence[int], output_stride: int) -> list[Stage]:
    """Return torchvision's stages: a stage has one dilation, its first block still that of the stage before."""
    rate3, rate4 = {16: (1, 2), 8: (2, 4)}[output_stride]
    return [
        Stage(1, (1,) * blocks[0]),
        Stage(2, (1,) * blocks[1]),
        Stage(2 if rate3 == 1 else 1, (1,) + (rate3,) * (blocks[2] - 1)),
        Stage(1, (rate3,) + (rate4,) * (blocks[3] - 1)),
    ]


class ResNet(nn.Module):
    """Backbone up to layer4, without the classifier.

    ``[N, 3, H, W]`` -> ``[N, out_channels, ceil(H / stride), ceil(W / stride)]``.
    """

    def __init__(self, architecture: Architecture, stages: Sequence[Stage]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = BatchNorm2d(64)
        self.out_channels = 64
        block = architecture.block
        self.layer1 = self._stage(block, 64, stages[0])
        self.layer2 = self._stage(block, 128, stages[1])
        self.layer3 = self._stage(block, 256, stages[2])
        self.layer4 = self._stage(block, 512, stages[3])

    def _stage(self, block: type[BasicBlock] | type[Bottleneck], planes: int, stage: Stage) -> nn.Sequential:
        blocks = []
        for b, dilation in enumerate(stage.dilations):
            blocks.append(block(self.out_channels, planes, stage.stride if b == 0 else 1, dilation))
            self.out_channels = planes * block.expansion
        return nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N, out_channels, ceil(H / stride), ceil(W / stride)]`` of ``[N, 3, H, W]``."""
        x = self.layer3(self.layer2(self.layer1(self.bn1.pooled(self.conv1, x))))
        if self._takes_pixel_major(x):
            x = pixel_major(materialize(x))  # layer4 and what follows stay so
        return materialize(self.layer4(x))

    def _takes_pixel_major(self, x: Tensor | DeferredNorm) -> bool:
        """Tell whether most of layer4's 3x3 convolutions run by kernels of ours.

        Those of Triton, which skip taps, want its maps stored pixel-major; those of CUTLASS take them so.
        """
        if not isinstance(x, DeferredNorm):
            return False
        convs = [cast(nn.Conv2d, block.conv2) for block in self.layer4]
        one, fused = x.y[:, : convs[-1].in_channels], self.bn1.fused
        plans = [route.plan(conv, one, fused, defers=True, pixel_major=True) for conv in convs]
        return 2 * sum(plan is not Route.LIBRARY for plan in plans) > len(convs)
