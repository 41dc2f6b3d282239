"""A convolution's raw output on its way to where it is read: its normalisation is not done where it is made."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from ..dispatch import is_eager
from .batch_norm_stats import batch_moments, merge_moments
from .dual_norm_add_relu import norm_pair
from .norm_relu import norm_relu_twice, norm_relu_with

T = TypeVar("T")


@dataclass(frozen=True)
class Pending:
    """``relu(norm(y) + residual)`` that is still to be done, by kernels.

    ``y`` ``[N, C, H, W]`` raw; ``mean``, ``variance`` fp32 ``[C]``: the batch's where ``batch``, and then they carry
    ``y``'s gradient, or the running ones; ``weight``, ``bias`` ``[C]``. A residual may be pending itself, and is then
    normalised without a ReLU.
    """

    y: Tensor
    mean: Tensor
    variance: Tensor
    weight: Tensor
    bias: Tensor
    eps: float
    batch: bool
    residual: "Tensor | Pending | None" = None

    def done(self, relu: bool = True) -> Tensor:
        """The normalised activation."""
        if relu and self.is_pair():
            return self._pair()[0]
        residual = self.shortcut()
        return norm_relu_with(
            *(self.y, self.mean, self.variance, self.weight, self.bias, residual, relu, self.batch, self.eps)
        )

    def done_twice(self) -> tuple[Tensor, Tensor]:
        """The same, with ReLU, for two readers: their gradients meet in its own backward pass."""
        if self.is_pair():
            return self._pair()
        residual = self.shortcut()
        return norm_relu_twice(
            *(self.y, self.mean, self.variance, self.weight, self.bias, residual, self.batch, self.eps)
        )

    def shortcut(self) -> Tensor | None:
        """The residual, normalised."""
        return self.residual.done(relu=False) if isinstance(self.residual, Pending) else self.residual

    def _pair(self) -> tuple[Tensor, Tensor]:
        assert isinstance(self.residual, Pending)
        return norm_pair(*self.own(), *self.residual.own(), self.eps)

    def own(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, bool]:
        """Return what normalises ``y`` itself: that, mean, variance, weight, bias, and whether they are the batch's."""
        return self.y, self.mean, self.variance, self.weight, self.bias, self.batch

    def is_pair(self) -> bool:
        """Tell whether one pass can normalise the residual too."""
        other = self.residual
        if not isinstance(other, Pending) or other.residual is not None or not is_eager(self.y):
            return False
        return other.y.dtype == self.y.dtype and other.eps == self.eps

    def read_again(self, run: Callable[[Tensor], T]) -> T:
        """``run`` of the normalised activation, which is not kept: the backward pass of ``run`` normalises once more.

        Only where autograd runs eagerly. With a residual it is a block's output, which others keep anyway.
        """
        z = self.done()
        if self.residual is not None or not torch.is_grad_enabled() or not is_eager(z):
            return run(z)
        again = replace(self, y=self.y.detach(), weight=self.weight.detach(), bias=self.bias.detach())
        memory = StorageWeakRef(z.untyped_storage())

        def pack(saved: Tensor) -> Tensor | tuple[torch.Size, tuple[int, ...], int]:
            if StorageWeakRef(saved.untyped_storage()) != memory:
                return saved
            return saved.shape, saved.stride(), int(saved.storage_offset())  # of a view, perhaps

        def unpack(kept: Tensor | tuple[torch.Size, tuple[int, ...], int]) -> Tensor:
            if isinstance(kept, Tensor):
                return kept
            with torch.no_grad():
                return again.done().as_strided(*kept)

        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            return run(z)


def pending(
    y: Tensor,
    parts: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    training: bool,
    momentum: float,
    eps: float,
) -> Pending:
    """The BatchNorm after ``y``. With ``training`` the batch's statistics, which move the running ones, are merged from
    ``parts`` that the convolution left, or taken in a pass over ``y`` where it left none.
    """
    mean, variance = running_mean, running_var
    if training and parts is not None:
        mean, variance = merge_moments(parts, running_mean, running_var, momentum)
    elif training:
        mean, variance = batch_moments(y.detach(), running_mean, running_var, momentum)
    return Pending(y, mean, variance, weight, bias, eps, training)


def finished(x: Tensor | Pending) -> Tensor:
    return x.done() if isinstance(x, Pending) else x
