"""Layers whose behaviour differs from torch.nn's in ways that training depends on.

Activations are ``[N, C, H, W]`` tensors, stored channels-last unless said otherwise.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deeplab_fast.ops import atrous_conv2d, sync_batch_norm


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that survives one value per channel and can span processes.

    Differences from ``torch.nn.BatchNorm2d`` (state-dict keys are the same):

    * One value per channel (the image-pooling branch at batch size 1) has no variance. Instead of
      raising, the layer then normalises with its running statistics and leaves them unchanged.
    * ``frozen=True`` always normalises with the running statistics; weight and bias still learn.
    * ``sync=True`` takes the statistics over all processes of the default process group.
    """

    frozen: bool = False
    sync: bool = False

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.frozen:
            return self._normalise_with_running(input)
        if self.sync:
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.momentum is not None
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            return sync_batch_norm(
                input, self.weight, self.bias, self.running_mean, self.running_var, self.momentum, self.eps
            )
        if input.numel() == input.shape[1]:
            return self._normalise_with_running(input)
        return super().forward(input)

    def _normalise_with_running(self, input: Tensor) -> Tensor:
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


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
        if not self.training or self.p == 0.0:
            return input
        n = input.shape[0]
        uniform = torch.rand((self.world * n, *input.shape[1:]), device=input.device)
        keep = uniform[self.rank * n : (self.rank + 1) * n] >= self.p
        return input * (keep / (1.0 - self.p)).to(input)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class AtrousConv2d(nn.Conv2d):
    """``torch.nn.Conv2d`` with ``padding = dilation`` that does not compute taps that see only padding."""

    def forward(self, input: Tensor) -> Tensor:
        return atrous_conv2d(input, self.weight, self.stride, self.dilation)


def freeze_batch_norm(model: nn.Module) -> None:
    """Make every :class:`BatchNorm2d` of ``model`` use its running statistics from now on."""
    for module in model.modules():
        if isinstance(module, BatchNorm2d):
            module.frozen = True


def span_processes(model: nn.Module, rank: int, world: int, sync_bn: bool) -> None:
    """Tell the layers that depend on the global batch which part of it this process holds."""
    for module in model.modules():
        if isinstance(module, Dropout):
            module.rank, module.world = rank, world
        elif isinstance(module, BatchNorm2d):
            module.sync = sync_bn and world > 1
