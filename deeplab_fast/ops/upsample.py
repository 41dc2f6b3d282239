"""Bilinear upsampling of logits, and the softmax probabilities that evaluation sums."""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F


def upsample(logits: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Bilinear: ``[N, C, h, w]`` -> ``[N, C, *size]``, in the dtype of ``logits``."""
    return F.interpolate(logits, size, mode="bilinear", align_corners=align_corners)


@lru_cache(maxsize=64)
def interpolation_matrix(
    source: int, target: int, align_corners: bool, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Dense ``[target, source]`` matrix of one axis of bilinear interpolation.

    ``F.interpolate(x)`` equals ``A_rows @ x @ A_cols.T`` for every channel; its adjoint is the
    transposed product, which needs no scattered additions. Positions as in
    ``torch.nn.functional.interpolate``: ``i * (source-1)/(target-1)`` with ``align_corners``, else
    ``(i + 0.5) * source/target - 0.5``, clamped at the border.
    """
    i = torch.arange(target, dtype=torch.float64)
    if align_corners:
        position = i * ((source - 1) / (target - 1) if target > 1 else 0.0)
    else:
        position = ((i + 0.5) * (source / target) - 0.5).clamp(min=0.0)
    low = position.floor().clamp(max=source - 1)
    fraction = position - low
    low = low.long()
    high = (low + 1).clamp(max=source - 1)
    matrix = torch.zeros(target, source, dtype=torch.float64)
    rows = torch.arange(target)
    matrix[rows, low] += 1.0 - fraction
    matrix[rows, high] += fraction
    return matrix.to(device=device, dtype=dtype)


def upsample_softmax(
    logits: Tensor, size: int, extent: tuple[int, int], target: tuple[int, int], align_corners: bool
) -> Tensor:
    """Class probabilities of one padded image at its original size.

    Upsamples ``logits`` ``[C, h, w]`` to the padded square ``size``, takes the softmax over
    classes, keeps the top-left ``extent`` (height, width) that is image rather than padding, and
    resizes it bilinearly (half-pixel centres, as OpenCV) to ``target`` (height, width).
    Returns fp32 ``[C, *target]``.
    """
    full = upsample(logits.float()[None], (size, size), align_corners)
    probabilities = full.softmax(dim=1)[..., : extent[0], : extent[1]]
    return F.interpolate(probabilities, target, mode="bilinear", align_corners=False)[0]
