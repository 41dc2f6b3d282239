"""Batch normalisation as the network runs it: with what is before and after it, or left to who reads it."""

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deeplab_fast.ops import (
    DeferredNorm,
    NormParams,
    atrous_conv_bn,
    atrous_conv_bn_relu,
    can_fold_bn,
    conv_bn,
    defer_norm,
    folded_conv,
    materialize,
    norm_relu,
    norm_relu_pool,
    sync_batch_norm,
    use_kernels,
)
from deeplab_fast.ops.conv import route
from deeplab_fast.ops.conv.route import Route
from deeplab_fast.ops.norm.norm_relu import supports

from .convolve import convolve, stem


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that takes the residual and the ReLU after it, survives one value per channel and can
    span processes.

    Differences from ``torch.nn.BatchNorm2d`` (state-dict keys are the same):

    * ``forward(x, residual, relu=True)`` is ``relu(norm(x) + residual)`` in one fused pass where the kernels run
      (``fused``); :meth:`conv_norm` takes in the convolution before it, :meth:`pooled` the stem's pooling, and
      :meth:`conv_then_defer` leaves the normalisation to who reads the output.
    * One value per channel (the image-pooling branch at batch size 1) has no variance. Instead of
      raising, the layer then normalises with its running statistics and leaves them unchanged.
    * ``frozen=True`` always normalises with the running statistics; weight and bias still learn.
    * ``sync=True`` takes the statistics over all processes of the default process group, which no convolution's
      epilogue knows.
    * ``recompute=True`` keeps raw convolution outputs only, and normalises again what the gradient reads.
    * ``counts_later=True`` leaves the count of batches to :func:`count_batches`.
    """

    frozen: bool = False
    counts_later: bool = False
    has_counted: bool = True
    sync: bool = False
    fused: str = "auto"
    recompute: bool = False

    def forward(self, input: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        """Return ``relu(norm(x) + residual)`` ``[N, C, H, W]``, ReLU and residual where asked for."""
        training = self.begin_batch(input.numel() // input.shape[1])
        if training and self.sync:
            return sync_batch_norm(
                input,
                *self.params(),
                momentum=self._momentum(),
                eps=self.eps,
                residual=residual,
                relu=relu,
                fused=self.fused,
            )
        return norm_relu(input, *self.params(), residual=residual, relu=relu, **self._options(training))

    def conv_norm(self, conv: nn.Conv2d, input: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        """Return ``relu(norm(conv(x)) + residual)`` ``[N, C, H', W']``; at inference on a CPU in one pass."""
        if (
            not can_fold_bn(input, self.training and not self.frozen, self.fused)
            or conv.bias is not None
            or conv.groups > 1
        ):
            return self(convolve(conv, input), residual, relu)
        assert isinstance(conv.padding, tuple)
        return folded_conv(
            input,
            conv.weight,
            *self.params(),
            stride=conv.stride,
            padding=conv.padding,
            dilation=conv.dilation,
            residual=residual,
            relu=relu,
            eps=self.eps,
        )

    def pooled(self, conv: nn.Conv2d, input: Tensor) -> Tensor:
        """Return ``max_pool(relu(norm(conv(x))))`` ``[N, C, H', W']``, 3x3 with stride 2 and padding 1."""
        if self.sync or can_fold_bn(input, self.training and not self.frozen, self.fused):
            return F.max_pool2d(self.conv_norm(conv, input, relu=True), 3, 2, 1)
        x = stem(conv, input, self.fused)
        return norm_relu_pool(x, *self.params(), **self._options(self.begin_batch(x.numel() // x.shape[1])))

    def atrous(self, conv: nn.Conv2d, input: Tensor) -> Tensor:
        """Return ``relu(norm(conv(x)))`` ``[N, C, H, W]``, in one launch at inference."""
        if self.sync:
            return self(convolve(conv, input), relu=True)
        training = self.begin_batch(input.numel() // input.shape[1])
        rate = conv.dilation[0]
        return atrous_conv_bn_relu(input, conv.weight, *self.params(), rate=rate, **self._options(training))

    def can_defer(self, input: Tensor | DeferredNorm) -> bool:
        """Tell whether :meth:`conv_then_defer` can be called: kernels take ``input``, of shape ``[N, C, H, W]``."""
        x = input.y if isinstance(input, DeferredNorm) else input
        return not self.sync and use_kernels("norm_relu", self.fused, x.device, supports(x))

    def conv_then_defer(
        self, conv: nn.Conv2d, input: Tensor | DeferredNorm, keep: bool = True
    ) -> tuple[Tensor | None, DeferredNorm]:
        """Return what ``conv`` read, and its output ``[N, C, H', W']`` with this normalisation still to be applied.

        ``input`` may be deferred itself. What ``conv`` read is None where ``keep`` is False and it was not stored.
        """
        x = input.y if isinstance(input, DeferredNorm) else input
        deferred = input if isinstance(input, DeferredNorm) else None
        alone = deferred is not None and deferred.residual is None and not keep
        who = route.plan(conv, x, self.fused, alone)
        stride, rate = conv.stride[0], conv.dilation[0]
        training = self.begin_batch(x.shape[0] * -(-x.shape[2] // stride) * -(-x.shape[3] // stride))
        again = self.recompute and not keep and deferred is not None
        options: dict[str, Any] = {"training": training, "momentum": self._momentum(), "eps": self.eps}
        if who in (Route.PRODUCT_1X1, Route.PRODUCT_3X3):
            before, reach = (materialize(input) if stride > 1 else input), (0 if who is Route.PRODUCT_1X1 else rate)
            return conv_bn(
                before, conv.weight, *self.params(), stride=stride, rate=reach, keep=keep, again=again, **options
            )

        def run(z: Tensor) -> DeferredNorm:
            if who is Route.ATROUS:
                return atrous_conv_bn(z, conv.weight, *self.params(), rate=rate, **options)
            return defer_norm(convolve(conv, z), None, *self.params(), **options)

        if again:
            assert deferred is not None
            return None, deferred.recompute_in_backward(run)
        if keep and deferred is not None and who is Route.LIBRARY:
            read, z = deferred.apply_shared()
            return z, run(read)
        z = materialize(input)
        return z, run(z)

    def uses_batch_stats(self, values: int) -> bool:
        """Tell whether the batch's own statistics normalise, of so many values a channel."""
        return self.training and not self.frozen and (self.sync or values > 1)

    def begin_batch(self, values: int) -> bool:
        """Count the batch where its own statistics normalise, and return whether they do."""
        training = self.uses_batch_stats(values)
        if training:
            self.has_counted = False
            if not self.counts_later:
                count_batches([self])
        return training

    def params(self) -> NormParams:
        """Return weight, bias and running statistics, each ``[C]``."""
        assert self.running_mean is not None
        assert self.running_var is not None
        return NormParams(self.weight, self.bias, self.running_mean, self.running_var)

    def _momentum(self) -> float:
        assert self.momentum is not None
        return self.momentum

    def _options(self, training: bool) -> dict[str, Any]:
        return {"training": training, "momentum": self._momentum(), "eps": self.eps, "fused": self.fused}


def count_batches(norms: Iterable[BatchNorm2d]) -> None:
    """Count the batch of those that took its statistics since they last counted, all together."""
    waiting = [norm for norm in norms if not norm.has_counted]
    if waiting:
        torch._foreach_add_([cast(Tensor, norm.num_batches_tracked) for norm in waiting], 1)
    for norm in waiting:
        norm.has_counted = True


def freeze_batch_norm(model: nn.Module) -> None:
    """Make every :class:`BatchNorm2d` of ``model`` use its running statistics from now on."""
    for module in model.modules():
        if isinstance(module, BatchNorm2d):
            module.frozen = True
