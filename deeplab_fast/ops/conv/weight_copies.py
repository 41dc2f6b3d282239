"""Copies of convolutions' weights in the type that they multiply in, written together after each update.

Without them every convolution casts its own weights anew: two hundred small launches in a step of ResNet-101. A copy
counts only for the version of the weights that it was made from (torch counts changes in place, not those of
``weight.data``); whoever changes them otherwise, by loading a checkpoint for instance, makes the next reader cast.
"""

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

# By weight: its copy, as long as its WeightCopies lives, and the version that it was made from.
_copies: Any = WeakTensorKeyDictionary()


class WeightCopies:
    """Copies of ``weights`` in ``dtype``, from the first :meth:`refresh` on."""

    def __init__(self, weights: Iterable[Tensor], dtype: torch.dtype) -> None:
        self.weights, self.dtype = list(weights), dtype
        self.copies: list[Tensor] = []

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy all weights as they are now. The copies stay where they are, as a CUDA graph wants it."""
        if not self.copies:
            self.copies = [torch.empty_like(weight, dtype=self.dtype) for weight in self.weights]
        torch._foreach_copy_(self.copies, self.weights)
        for weight, copy in zip(self.weights, self.copies, strict=True):
            _copies[weight] = weakref.ref(copy), weight._version


def in_type(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``weight`` (any shape) in ``dtype``, a copy that is there or a new one; carries no gradient."""
    found = _found(weight, dtype)
    return weight.to(dtype) if found is None else found


def copied(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the copy of ``weight`` (any shape) in ``dtype``, with its gradient; where there is none ``weight``."""
    if torch.compiler.is_compiling() or _found(weight, dtype) is None:
        return weight
    return _Copied.apply(weight, dtype)


def _found(weight: Tensor, dtype: torch.dtype) -> Tensor | None:
    of, version = _copies.get(weight, (None, None))
    copy = of() if of is not None and version == weight._version else None
    return copy if copy is not None and (copy.dtype, copy.device) == (dtype, weight.device) else None


class _Copied(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight, dtype):  # type: ignore[no-untyped-def]
        ctx.dtype = weight.dtype
        return in_type(weight, dtype).detach()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        return gradient.to(ctx.dtype), None
