"""Layers whose behaviour differs from torch.nn's in ways that training depends on.

Activations are ``[N, C, H, W]`` tensors, stored channels-last unless said otherwise.
"""

from typing import cast

import torch
from torch import Tensor, nn

from deeplab_fast.ops.dispatch import check_fused
from deeplab_fast.ops.norm.sync_batch_norm import break_graphs

from .batch_norm import BatchNorm2d
from .convolve import AtrousConv2d


class ConvNormRelu(nn.Sequential):
    """Convolution, :class:`BatchNorm2d` and ReLU under torchvision's keys ``0``, ``1``; more layers may follow."""

    def __init__(self, conv: nn.Conv2d, *more: nn.Module) -> None:
        super().__init__(conv, BatchNorm2d(conv.out_channels), nn.ReLU(inplace=True), *more)

    @property
    def conv(self) -> nn.Conv2d:
        return cast(nn.Conv2d, self[0])

    @property
    def norm(self) -> BatchNorm2d:
        return cast(BatchNorm2d, self[1])

    def forward(self, input: Tensor) -> Tensor:
        """Return ``[N, K, H', W']`` of ``[N, C, H, W]``."""
        conv, norm = self.conv, self.norm
        if norm.can_defer(input):
            output = norm.conv_then_defer(conv, input, keep=False)[1].apply()
        else:
            output = norm.conv_norm(conv, input, relu=True)
        for layer in list(self)[3:]:
            output = layer(output)
        return output


class Dropout(nn.Module):
    """Dropout whose mask does not depend on how the batch is spread over processes.

    Each process draws the mask of the whole global batch from the global generator and keeps its
    own images' part, so ``world`` processes of batch ``n`` drop what one process of batch
    ``world * n`` drops. All processes therefore consume the same random numbers and share one
    generator state.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.rank, self.world = 0, 1

    def forward(self, input: Tensor) -> Tensor:
        """Return ``input``, of shape ``[N, ...]``, its values dropped or scaled by ``1 / (1 - p)``."""
        if not self.training or self.p == 0.0:
            return input
        n = input.shape[0]
        uniform = torch.rand((self.world * n, *input.shape[1:]), device=input.device)
        keep = uniform[self.rank * n : (self.rank + 1) * n] >= self.p
        return input * (keep / (1.0 - self.p)).to(input)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class AtrousConvBNReLU(ConvNormRelu):
    """``Conv2d(3x3)`` at any rate, ``BatchNorm2d`` and ReLU as one op, under their keys ``0`` and ``1``.

    A drop-in for ``nn.Sequential(nn.Conv2d(cin, cout, 3, padding=rate, dilation=rate, bias=False),
    nn.BatchNorm2d(cout), nn.ReLU())``, whose state dict it takes and gives; see
    :func:`~deeplab_fast.ops.atrous_conv_bn_relu` for what it computes and which inputs its kernels take.

    Args:
        rate: distance of the taps in pixels, which is the padding too.
        fused: ``auto``, ``on`` or ``off``.
    """

    def __init__(self, cin: int, cout: int, rate: int = 1, fused: str = "auto") -> None:
        super().__init__(AtrousConv2d(cin, cout, 3, padding=rate, dilation=rate, bias=False))
        self.norm.fused = fused

    def forward(self, input: Tensor) -> Tensor:
        """Return ``[N, cout, H, W]`` of ``[N, cin, H, W]``."""
        return self.norm.atrous(self.conv, input)


def use_fused(model: nn.Module, fused: str, recompute: bool = False) -> None:
    """Make the layers that have fused kernels use them as ``--fused`` and ``--recompute_activations`` say.

    Raises:
        UserError: ``on``, and no kernel can run on the device that ``model`` is on.
    """
    check_fused(fused, next(model.parameters()).device)
    for module in model.modules():
        if isinstance(module, BatchNorm2d):
            module.fused, module.recompute = fused, recompute


def span_processes(model: nn.Module, rank: int, world: int, sync_bn: bool) -> None:
    """Tell the layers that depend on the global batch which part of it this process holds."""
    if sync_bn and world > 1:
        break_graphs()
    for module in model.modules():
        if isinstance(module, Dropout):
            module.rank, module.world = rank, world
        elif isinstance(module, BatchNorm2d):
            module.sync = sync_bn and world > 1
