"""Layers whose behaviour differs from torch.nn's in ways that training depends on.

Activations are ``[N, C, H, W]`` tensors, stored channels-last unless said otherwise.
"""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deeplab_fast.ops import (
    Norm,
    Pending,
    atrous_conv2d,
    atrous_conv_bn,
    atrous_conv_bn_relu,
    conv_bn,
    finished,
    folded_conv,
    folds,
    norm_relu,
    norm_relu_pool,
    pending,
    sync_batch_norm,
    use_kernels,
)
from deeplab_fast.ops.conv import gemm, gemm_check
from deeplab_fast.ops.conv.atrous_conv import product_dtype
from deeplab_fast.ops.conv.conv_branches import supports as conv_supports
from deeplab_fast.ops.conv.conv_choice import ATROUS, CONV1X1, CONV3X3, slower
from deeplab_fast.ops.conv.stem_conv import stem_conv
from deeplab_fast.ops.conv.stem_conv import supports as stem_supports
from deeplab_fast.ops.conv.weight_copies import copied
from deeplab_fast.ops.dispatch import tell
from deeplab_fast.ops.layout import as_rows, is_pixel_major
from deeplab_fast.ops.norm.norm_relu import supports as norm_supports
from deeplab_fast.ops.norm.sync_batch_norm import break_graphs


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that takes the residual and the ReLU after it, survives one value per channel and can
    span processes.

    Differences from ``torch.nn.BatchNorm2d`` (state-dict keys are the same):

    * ``forward(x, residual, relu=True)`` is ``relu(norm(x) + residual)`` in one fused pass where the
      kernels run (``fused``); :meth:`of` takes in the convolution before it, :meth:`pooled` the stem's pooling.
    * One value per channel (the image-pooling branch at batch size 1) has no variance. Instead of
      raising, the layer then normalises with its running statistics and leaves them unchanged.
    * ``frozen=True`` always normalises with the running statistics; weight and bias still learn.
    * ``sync=True`` takes the statistics over all processes of the default process group.
    * ``recompute=True`` keeps raw convolution outputs only, and makes what :meth:`after` reads again for its gradient.
    * ``counts_later=True`` leaves the count of batches to :func:`count_batches`.
    """

    frozen: bool = False
    counts_later: bool = False
    has_counted: bool = True
    sync: bool = False
    fused: str = "auto"
    recompute: bool = False

    def forward(self, input: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        training = self.takes_statistics(input.numel() // input.shape[1])
        if training and self.sync:
            return sync_batch_norm(input, *self.tensors(), self._momentum(), self.eps, residual, relu, self.fused)
        return norm_relu(
            *(input, *self.tensors()),
            residual=residual,
            relu=relu,
            training=training,
            momentum=self._momentum(),
            eps=self.eps,
            fused=self.fused,
        )

    def of(self, conv: nn.Conv2d, input: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        """``relu(norm(conv(x)) + residual)``; in inference on a CPU in one pass."""
        if not folds(input, self.training and not self.frozen, self.fused) or conv.bias is not None or conv.groups > 1:
            return self(convolve(conv, input), residual, relu)
        assert isinstance(conv.padding, tuple)
        return folded_conv(
            *(input, conv.weight, *self.tensors()),
            stride=conv.stride,
            padding=conv.padding,
            dilation=conv.dilation,
            residual=residual,
            relu=relu,
            eps=self.eps,
        )

    def pooled(self, conv: nn.Conv2d, input: Tensor) -> Tensor:
        """``max_pool(relu(norm(conv(x))))``, 3x3 with stride 2 and padding 1."""
        if self.sync or folds(input, self.training and not self.frozen, self.fused):
            return F.max_pool2d(self.of(conv, input, relu=True), 3, 2, 1)
        x = stem(conv, input, self.fused)
        return norm_relu_pool(
            *(x, *self.tensors()),
            training=self.takes_statistics(x.numel() // x.shape[1]),
            momentum=self._momentum(),
            eps=self.eps,
            fused=self.fused,
        )

    def pends(self, input: Tensor | Pending) -> bool:
        """Whether :meth:`after` can be called: kernels normalise ``input``, and what is made of it."""
        x = input.y if isinstance(input, Pending) else input
        return not self.spans(x) and use_kernels("norm_relu", self.fused, x.device, norm_supports(x))

    def spans(self, x: Tensor) -> bool:
        """Whether the statistics are those of all processes, which no convolution's epilogue knows; logs it once."""
        if self.sync and self.fused != "off" and x.device.type == "cuda":
            tell("each convolution", "the BatchNorm after it spans processes (--sync_bn)")
        return self.sync

    def after(self, conv: nn.Conv2d, input: Tensor | Pending, keep: bool = True) -> tuple[Tensor | None, Pending]:
        """``conv`` of ``input``, which may be pending itself, and this normalisation after it, left pending.

        Also returns what ``conv`` read, or None where ``keep`` is False and it was not stored. The convolution runs by
        our kernels or the library's, whichever is ahead (see :mod:`deeplab_fast.ops.conv.conv_choice`).
        """
        x = input.y if isinstance(input, Pending) else input
        n, (stride, _) = x.shape[0], conv.stride
        training = self.takes_statistics(n * -(-x.shape[2] // stride) * -(-x.shape[3] // stride))
        norm, momentum, eps = self.tensors(), self._momentum(), self.eps
        kind = conv_kind(conv)
        again = self.recompute and not keep and isinstance(input, Pending)

        def library(z: Tensor) -> Pending:
            return pending(convolve(conv, z), None, *norm, training, momentum, eps)

        def atrous(z: Tensor) -> Pending:
            rate = conv.dilation[0]
            return atrous_conv_bn(z, conv.weight, *norm, rate=rate, training=training, momentum=momentum, eps=eps)

        def product(before: Tensor | Pending, stride: int = 1, rate: int = 0) -> tuple[Tensor | None, Pending]:
            return conv_bn(
                before,
                conv.weight,
                *norm,
                stride=stride,
                training=training,
                momentum=momentum,
                eps=eps,
                keep=keep,
                again=again,
                rate=rate,
            )

        fused = runs_fused(kind, conv, x, self.fused) and not (self.fused == "auto" and needs_copy(kind, x))
        if fused and kind == CONV1X1:
            return product(finished(input) if stride > 1 else input, stride)
        alone = isinstance(input, Pending) and input.residual is None and not keep
        if not fused and alone and kind == ATROUS and runs_product(conv, x, self.fused):
            return product(input, rate=conv.dilation[0])
        run = atrous if fused else library
        if again:
            assert isinstance(input, Pending)
            return None, input.read_again(run)
        if keep and isinstance(input, Pending) and not fused:
            read, z = input.done_twice()
            return z, run(read)
        z = finished(input)
        return z, run(z)

    def atrous(self, conv: nn.Conv2d, input: Tensor) -> Tensor:
        """``relu(norm(conv(x)))``, in one launch where nothing learns."""
        if self.spans(input):
            return self(convolve(conv, input), relu=True)
        return atrous_conv_bn_relu(
            *(input, conv.weight, *self.tensors()),
            rate=conv.dilation[0],
            training=self.takes_statistics(input.numel() // input.shape[1]),
            momentum=self._momentum(),
            eps=self.eps,
            fused=self.fused,
        )

    def takes_statistics(self, values: int) -> bool:
        """Whether the batch's own statistics normalise, of so many values a channel; counts the batch then."""
        if not self.training or self.frozen or (not self.sync and values == 1):
            return False
        self.has_counted = False
        if not self.counts_later:
            count_batches([self])
        return True

    def _momentum(self) -> float:
        assert self.momentum is not None
        return self.momentum

    def tensors(self) -> Norm:
        """Weight, bias and running statistics."""
        assert self.running_mean is not None
        assert self.running_var is not None
        return Norm(self.weight, self.bias, self.running_mean, self.running_var)


def count_batches(norms: Iterable[BatchNorm2d]) -> None:
    """Count the batch of those that took its statistics since they last counted, all together."""
    waiting = [norm for norm in norms if not norm.has_counted]
    if waiting:
        torch._foreach_add_([cast(Tensor, norm.num_batches_tracked) for norm in waiting], 1)
    for norm in waiting:
        norm.has_counted = True


def convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """``conv(x)``; a 1x1 convolution of a pixel-major map, to which pixels are images, without a copy of it."""
    if isinstance(conv, AtrousConv2d):
        return conv(x)
    weight = copied(conv.weight, product_dtype(x))
    if conv_kind(conv) != CONV1X1 or conv.stride != (1, 1) or not is_pixel_major(x):
        return conv(x) if weight is conv.weight else conv._conv_forward(x, weight, conv.bias)
    n, c, h, w = x.shape
    y = F.conv2d(as_rows(x).view(h * w, n, 1, c).permute(0, 3, 1, 2), weight)
    return as_rows(y).view(h, w, n, -1).permute(2, 3, 0, 1)


def stem(conv: nn.Conv2d, x: Tensor, fused: str) -> Tensor:
    """``conv(x)``; in training on a GPU, and where the interpreter is asked for, with 2x2 pixels beside each other."""
    assert isinstance(conv.padding, tuple)
    if stem_supports(x, conv.weight, conv.stride, conv.padding) or not use_kernels("stem_conv", fused, x.device, None):
        return convolve(conv, x)
    return stem_conv(x, copied(conv.weight, product_dtype(x)))


def conv_kind(conv: nn.Conv2d) -> str | None:
    """The fused op that does the work of ``conv`` and a BatchNorm, or None."""
    if conv.bias is not None or conv.groups != 1:
        return None
    if conv.kernel_size == (1, 1) and conv.padding == (0, 0) and conv.stride[0] == conv.stride[1]:
        return CONV1X1
    is_same = conv.padding == conv.dilation and conv.dilation[0] == conv.dilation[1] and conv.stride == (1, 1)
    return ATROUS if conv.kernel_size == (3, 3) and is_same else None


def runs_fused(kind: str | None, conv: nn.Conv2d, x: Tensor, fused: str) -> bool:
    """Whether our kernels of ``kind`` do the convolution of ``x``, see :func:`~deeplab_fast.ops.use_kernels`."""
    if kind is None or fused == "off":
        return False
    if kind == CONV1X1:
        if reason := gemm.supports(x, conv.out_channels):  # the library and a pass serve as well, with --fused=on too
            tell(kind, reason)
            return False
        rate, reason = 0, None
    else:
        rate, reason = conv.dilation[0], conv_supports(x, [conv.weight])
    if reason is None and fused == "auto":
        reason = slower(kind, x[:, :, :: conv.stride[0], :: conv.stride[1]], conv.out_channels, [rate])
    if reason is None and kind == CONV1X1:  # the last question: it takes a process of its own
        reason = gemm_check.disagreement(x.device, "1x1")
    return use_kernels(kind, fused, x.device, reason)


def runs_product(conv: nn.Conv2d, x: Tensor, fused: str) -> bool:
    """Tell whether the 3x3 convolution of ``x`` runs as a matrix product of ours: only where that was measured ahead.

    Kernels that would be ahead but do not agree with torch are named in the log, once.
    """
    if fused != "auto" or x.device.type != "cuda":
        return False
    rate, k = conv.dilation[0], conv.out_channels
    if slower(CONV3X3, x, k, [rate]) or gemm.supports(x, k, rate):
        return False
    if reason := gemm_check.disagreement(x.device, "3x3"):
        tell(CONV3X3, reason)
    return reason is None


def needs_copy(kind: str | None, x: Tensor) -> bool:
    """Whether our kernels of ``kind`` read ``x`` stored otherwise: two copies cost more than they gain."""
    return kind == ATROUS and x.shape[0] > 1 and not is_pixel_major(x)


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
        conv, norm = self.conv, self.norm
        fused = norm.pends(input)
        output = norm.after(conv, input, keep=False)[1].done() if fused else norm.of(conv, input, relu=True)
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
        weight = copied(self.weight, product_dtype(input))
        return atrous_conv2d(input, weight, self.stride, self.dilation)


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
        """``[N, cin, H, W]`` -> ``[N, cout, H, W]``."""
        return self.norm.atrous(self.conv, input)


def freeze_batch_norm(model: nn.Module) -> None:
    """Make every :class:`BatchNorm2d` of ``model`` use its running statistics from now on."""
    for module in model.modules():
        if isinstance(module, BatchNorm2d):
            module.frozen = True


def use_fused(model: nn.Module, fused: str, recompute: bool = False) -> None:
    """Make the layers that have fused kernels use them as ``--fused`` and ``--recompute_activations`` say."""
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
