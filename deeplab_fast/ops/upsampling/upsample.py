"""Bilinear upsampling, and its geometry: what the ops that never make a full-resolution tensor work with."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..constants import kept


def upsample(logits: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Upsample bilinearly: ``[N, C, h, w]`` -> ``[N, C, *size]``, in the dtype of ``logits``."""
    return F.interpolate(logits, size, mode="bilinear", align_corners=align_corners)


def positions(source: int, target: int, align_corners: bool) -> Tensor:
    """Return where each output pixel lies on one axis of the input, not clamped to it: fp64 ``[target]``."""
    i = torch.arange(target, dtype=torch.float64)
    if align_corners:
        return i * ((source - 1) / (target - 1) if target > 1 else 0.0)
    return (i + 0.5) * (source / target) - 0.5


@kept(64)
def interpolation_matrix(
    source: int, target: int, align_corners: bool, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Make the dense ``[target, source]`` matrix of one axis of bilinear interpolation.

    ``F.interpolate(x)`` equals ``A_rows @ x @ A_cols.T`` for every channel; its adjoint is the
    transposed product, which needs no scattered additions. Positions as in
    ``torch.nn.functional.interpolate``: ``i * (source-1)/(target-1)`` with ``align_corners``, else
    ``(i + 0.5) * source/target - 0.5``, clamped at the border.
    """
    position = positions(source, target, align_corners).clamp(min=0.0)
    low = position.floor().clamp(max=source - 1)
    fraction = position - low
    low = low.long()
    high = (low + 1).clamp(max=source - 1)
    matrix = torch.zeros(target, source, dtype=torch.float64)
    rows = torch.arange(target)
    matrix[rows, low] += 1.0 - fraction
    matrix[rows, high] += fraction
    return matrix.to(device=device, dtype=dtype)


class Cells(NamedTuple):
    """One axis of bilinear interpolation, see :func:`cells`."""

    starts: Tensor
    cell: Tensor
    shares: Tensor


@kept(None)  # none is ever freed: a captured graph may still read it
def cells(source: int, target: int, align_corners: bool, device: torch.device) -> Cells:
    """Describe one axis of bilinear interpolation by cells, the intervals between neighbouring input pixels.

    Cell ``k`` of ``0 .. source`` holds the outputs between input pixels ``k - 1`` and ``k``; the first
    and the last lie at the borders, where only one of the two exists and has the whole weight.

    Returns:
        ``starts`` int32 ``[source + 2]``: the outputs of cell ``k`` are ``starts[k] .. starts[k + 1]``;
        ``cell`` int32 ``[target]``: the cell of each output;
        ``shares`` fp32 ``[target]``: the weight of pixel ``k``, the rest being that of ``k - 1``.
    """
    position = positions(source, target, align_corners)
    cell = (position.floor().long() + 1).clamp(0, source)
    shares = position - (cell - 1)
    shares[cell == 0] = 1.0
    shares[cell == source] = 0.0
    starts = torch.searchsorted(cell, torch.arange(source + 2))
    return Cells(starts.to(torch.int32).to(device), cell.to(torch.int32).to(device), shares.float().to(device))
