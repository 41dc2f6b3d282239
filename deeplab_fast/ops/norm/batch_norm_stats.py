"""The batch's mean and variance of each channel, and what moves the running ones with them.

From the activation itself, in a pass of its own; or from the (count, mean, M2) of its parts, where the convolution
that made it has left them. Either is merged in a fixed order; no square of a raw value is summed.
"""

import torch
from torch import Tensor

from ..dispatch import traceable
from ..layout import as_rows


def _moments(x: Tensor, running_mean: Tensor, running_var: Tensor, momentum: float) -> tuple[Tensor, Tensor]:
    from .triton import batch_norm_stats as kernels

    return kernels.batch_norm_stats(as_rows(x), running_mean, running_var, momentum)


def _merge(parts: Tensor, running_mean: Tensor, running_var: Tensor, momentum: float) -> tuple[Tensor, Tensor]:
    from .triton import batch_norm_stats as kernels

    return kernels.merge_stats_and_update_running(parts, running_mean, running_var, momentum)


def _empty(x, running_mean, running_var, momentum):  # type: ignore[no-untyped-def]
    return torch.empty_like(running_mean), torch.empty_like(running_var)


def _empty_merged(parts, running_mean, running_var, momentum):  # type: ignore[no-untyped-def]
    return torch.empty_like(running_mean), torch.empty_like(running_var)


_traced_moments = traceable("batch_moments", _moments, _empty, mutates=("running_mean", "running_var"))
_traced_merge = traceable("merge_moments", _merge, _empty_merged, mutates=("running_mean", "running_var"))


def batch_norm_stats(x: Tensor, running_mean: Tensor, running_var: Tensor, momentum: float) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of ``x`` ``[N, C, H, W]``, fp32 ``[C]``; move the running statistics.

    Args:
        running_mean, running_var: fp32 ``[C]``, moved by ``momentum``, the variance with n/(n-1).
    """
    return _traced_moments(x, running_mean, running_var, momentum)


def merge_stats_and_update_running(
    parts: Tensor, running_mean: Tensor, running_var: Tensor, momentum: float
) -> tuple[Tensor, Tensor]:
    """Return the same from ``parts`` fp32 ``[P, 3, C]``, contiguous but for the channels it was sliced from."""
    return _traced_merge(parts, running_mean, running_var, momentum)
