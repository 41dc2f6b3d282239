"""Layers whose behaviour differs from torch.nn's in ways that training depends on.

Activations are ``[N, C, H, W]`` tensors, stored channels-last unless said otherwise.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deeplab_fast.ops import atrous_conv2d, norm_relu, norm_relu_pool, sync_batch_norm


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that takes the residual and the ReLU after it, survives one value per channel and can
    span processes.

    Differences from ``torch.nn.BatchNorm2d`` (state-dict keys are the same):

    * ``forward(x, residual, relu=True)`` is ``relu(norm(x) + residual)`` in one fused pass where the
      kernels run (``fused``); :meth:`pool` also takes the stem's max-pooling in.
    * One value per channel (the image-pooling branch at batch size 1) has no variance. Instead of
      raising, the layer then normalises with its running statistics and leaves them unchanged.
    * ``frozen=True`` always normalises with the running statistics; weight and bias still learn.
    * ``sync=True`` takes the statistics over all processes of the default process group.
    """

    frozen: bool = False
    sync: bool = False
    fused: str = "auto"

    def forward(self, input: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        training = self._takes_statistics(input)
        if training and self.sync:
            return sync_batch_norm(
                input, *self._parameters_and_statistics(), self._momentum(), self.eps, residual, relu, self.fused
            )
        return norm_relu(
            *(input, *self._parameters_and_statistics()),
            residual=residual,
            relu=relu,
            training=training,
            momentum=self._momentum(),
            eps=self.eps,
            fused=self.fused,
        )

    def pool(self, input: Tensor) -> Tensor:
        """``max_pool(relu(norm(x)))``, 3x3 with stride 2 and padding 1."""
        if self.sync:
            return F.max_pool2d(self(input, relu=True), 3, 2, 1)
        return norm_relu_pool(
            *(input, *self._parameters_and_statistics()),
            training=self._takes_statistics(input),
            momentum=self._momentum(),
            eps=self.eps,
            fused=self.fused,
        )

    def _takes_statistics(self, input: Tensor) -> bool:
        """Whether the batch's own statistics normalise; counts the batch then."""
        if not self.training or self.frozen or (not self.sync and input.numel() == input.shape[1]):
            return False
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        return True

    def _momentum(self) -> float:
        assert self.momentum is not None
        return self.momentum

    def _parameters_and_statistics(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        assert self.running_mean is not None
        assert self.running_var is not None
        return self.weight, self.bias, self.running_mean, self.running_var


class ConvNormRelu(nn.Sequential):
    """Convolution, :class:`BatchNorm2d` and ReLU under torchvision's keys ``0``, ``1``; more layers may follow."""

    def __init__(self, conv: nn.Conv2d, *more: nn.Module) -> None:
        super().__init__(conv, BatchNorm2d(conv.out_channels), nn.ReLU(inplace=True), *more)

    def forward(self, input: Tensor) -> Tensor:
        conv, norm, _, *more = self
        output = norm(conv(input), relu=True)
        for layer in more:
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


def use_fused(model: nn.Module, fused: str) -> None:
    """Make the layers that have fused kernels use them as ``--fused`` says."""
    for module in model.modules():
        if isinstance(module, BatchNorm2d):
            module.fused = fused


def span_processes(model: nn.Module, rank: int, world: int, sync_bn: bool) -> None:
    """Tell the layers that depend on the global batch which part of it this process holds."""
    for module in model.modules():
        if isinstance(module, Dropout):
            module.rank, module.world = rank, world
        elif isinstance(module, BatchNorm2d):
            module.sync = sync_bn and world > 1
