"""The batch's mean and variance of each channel, and what moves the running ones with them.

From the activation itself, in a pass of its own; or from the (count, mean, M2) of its parts, where the convolution
that made it has left them. Either is merged in a fixed order; no square of a raw value is summed.
"""

import torch
from torch import Tensor

from ..layout import as_rows


def is_eager(x: Tensor) -> bool:
    """Whether ops run as they are called: an autograd.Function then costs the host half of what a custom op does, which
    counts with a hundred of them in a step. Tracing (torch.compile, FakeTensor) needs the custom op.
    """
    return not torch.compiler.is_compiling() and type(x) in (Tensor, torch.nn.Parameter)


def batch_moments(x: Tensor, running_mean: Tensor, running_var: Tensor, momentum: float) -> tuple[Tensor, Tensor]:
    """Of ``x`` ``[N, C, H, W]``: mean and biased variance, fp32 ``[C]``; moves the running statistics."""
    if is_eager(x):
        with torch.no_grad():
            return _moments(x, running_mean, running_var, momentum)
    return _batch_moments(x, running_mean, running_var, momentum)


def merge_moments(parts: Tensor, running_mean: Tensor, running_var: Tensor, momentum: float) -> tuple[Tensor, Tensor]:
    """Of ``parts`` fp32 ``[P, 3, C]``, contiguous but for the channels it was sliced from: the same."""
    if is_eager(parts):
        with torch.no_grad():
            return _merge(parts, running_mean, running_var, momentum)
    return _merge_moments(parts, running_mean, running_var, momentum)


def _moments(x: Tensor, running_mean: Tensor, running_var: Tensor, momentum: float) -> tuple[Tensor, Tensor]:
    from .triton import batch_moments as kernels

    return kernels.batch_moments(as_rows(x), running_mean, running_var, momentum)


def _merge(parts: Tensor, running_mean: Tensor, running_var: Tensor, momentum: float) -> tuple[Tensor, Tensor]:
    from .triton import batch_moments as kernels

    return kernels.merge_moments(parts, running_mean, running_var, momentum)


_batch_moments = torch.library.custom_op(
    "deeplab_fast::batch_moments", _moments, mutates_args=("running_mean", "running_var")
)
_merge_moments = torch.library.custom_op(
    "deeplab_fast::merge_moments", _merge, mutates_args=("running_mean", "running_var")
)


@_batch_moments.register_fake
def _(x, running_mean, running_var, momentum):  # type: ignore[no-untyped-def]
    return torch.empty_like(running_mean), torch.empty_like(running_var)


@_merge_moments.register_fake
def _(parts, running_mean, running_var, momentum):  # type: ignore[no-untyped-def]
    return torch.empty_like(running_mean), torch.empty_like(running_var)
