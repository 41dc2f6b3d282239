"""A convolution's raw output on its way to where it is read: whoever reads it applies the BatchNorm."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from ..dispatch import is_eager
from .batch_norm_stats import batch_norm_stats, merge_stats_and_update_running
from .dual_norm_add_relu import dual_norm_add_relu
from .norm_relu import normalize_relu, normalize_relu_shared
from .params import NormConstants

T = TypeVar("T")


@dataclass(frozen=True)
class DeferredNorm:
    """``relu(norm(y) + residual)`` that is still to be computed, by kernels.

    ``y`` ``[N, C, H, W]`` raw; ``constants``: the batch's own statistics where ``batch``, and then they carry ``y``'s
    gradient, or the running ones. A residual may be deferred itself, and is then normalised without a ReLU.
    """

    y: Tensor
    constants: NormConstants
    batch: bool
    residual: "Tensor | DeferredNorm | None" = None

    def apply(self, relu: bool = True) -> Tensor:
        """Return the normalised activation ``[N, C, H, W]``."""
        if relu and self.can_add_in_one_pass():
            return self._add_in_one_pass()[0]
        return normalize_relu(self.y, self.constants, self.shortcut(), relu, self.batch)

    def apply_shared(self) -> tuple[Tensor, Tensor]:
        """Return it with ReLU ``[N, C, H, W]``, for two readers: their gradients meet in its own backward pass."""
        if self.can_add_in_one_pass():
            return self._add_in_one_pass()
        return normalize_relu_shared(self.y, self.constants, self.shortcut(), self.batch)

    def shortcut(self) -> Tensor | None:
        """Return the residual ``[N, C, H, W]``, normalised, or None."""
        return self.residual.apply(relu=False) if isinstance(self.residual, DeferredNorm) else self.residual

    def can_add_in_one_pass(self) -> bool:
        """Tell whether one pass can normalise the residual too."""
        other = self.residual
        if not isinstance(other, DeferredNorm) or other.residual is not None or not is_eager(self.y):
            return False
        return other.y.dtype == self.y.dtype and other.constants.eps == self.constants.eps

    def _add_in_one_pass(self) -> tuple[Tensor, Tensor]:
        other = self.residual
        assert isinstance(other, DeferredNorm)
        return dual_norm_add_relu(self.y, self.constants, self.batch, other.y, other.constants, other.batch)

    def recompute_in_backward(self, run: Callable[[Tensor], T]) -> T:
        """Return ``run`` of the normalised activation ``[N, C, H, W]``, which backward makes again: it is not kept.

        Only where autograd runs eagerly. With a residual it is a block's output, which others keep anyway.
        """
        z = self.apply()
        if self.residual is not None or not torch.is_grad_enabled() or not is_eager(z):
            return run(z)
        c = self.constants
        constants = c._replace(weight=c.weight.detach(), bias=c.bias.detach())
        again = replace(self, y=self.y.detach(), constants=constants)
        memory = StorageWeakRef(z.untyped_storage())

        def pack(saved: Tensor) -> Tensor | tuple[torch.Size, tuple[int, ...], int]:
            if StorageWeakRef(saved.untyped_storage()) != memory:
                return saved
            return saved.shape, saved.stride(), int(saved.storage_offset())  # of a view, perhaps

        def unpack(kept: Tensor | tuple[torch.Size, tuple[int, ...], int]) -> Tensor:
            if isinstance(kept, Tensor):
                return kept
            with torch.no_grad():
                return again.apply().as_strided(*kept)

        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            return run(z)


def defer_norm(
    y: Tensor,
    parts: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    training: bool,
    momentum: float,
    eps: float,
) -> DeferredNorm:
    """Return ``y`` ``[N, C, H, W]`` with the BatchNorm after it, whose statistics are taken.

    With ``training`` those of the batch, which move the running ones: merged from ``parts`` fp32 ``[P, 3, C]`` that the
    convolution left, or taken in a pass over ``y`` where it left none.
    """
    mean, variance = running_mean, running_var
    if training and parts is not None:
        mean, variance = merge_stats_and_update_running(parts, running_mean, running_var, momentum)
    elif training:
        mean, variance = batch_norm_stats(y.detach(), running_mean, running_var, momentum)
    return DeferredNorm(y, NormConstants(mean, variance, weight, bias, eps), training)


def materialize(x: Tensor | DeferredNorm) -> Tensor:
    """Return ``x`` ``[N, C, H, W]``, normalised where that was still to be done."""
    return x.apply() if isinstance(x, DeferredNorm) else x
