"""A residual network's first convolution, 7x7 with stride 2 of 3 channels, as one of 4x4 with stride 1 of 16.

Three channels fill a fifth of what a tensor core multiplies at a time, and a stride of 2 leaves three loads of four
unused. So the image's pixels are put beside each other, 2x2 of them and a border in one of 16 channels (12, and 4 of
zeros), and the weights likewise: the same sums in another order. The weights' own shape, and so checkpoints and
gradients, stay torchvision's.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..dispatch import traceable
from ..layout import CHANNELS_LAST

CHANNELS = 16


def stem_conv(x: Tensor, weight: Tensor) -> Tensor:
    """Return ``conv2d(x, weight, stride=2, padding=3)``.

    Args:
        x: ``[N, 3, H, W]``, best stored channels-last.
        weight: ``[K, 3, 7, 7]``.

    Returns:
        ``[N, K, ceil(H / 2), ceil(W / 2)]`` of the weight's type, or of autocast's. Differentiable in both.
    """
    dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else weight.dtype
    return F.conv2d(space_to_depth(x, dtype), folded(weight).to(dtype))


def folded(weight: Tensor) -> Tensor:
    """Return ``[K, 3, 7, 7]`` weights as ``[K, 16, 4, 4]``: those of the taps (2a + b - 1, 2a' + b' - 1) at (a, a')."""
    taps = F.pad(weight, (1, 0, 1, 0)).unflatten(3, (4, 2)).unflatten(2, (4, 2))  # K, c, a, b, a', b'
    together = taps.permute(0, 3, 5, 1, 2, 4).flatten(1, 3)
    padded = F.pad(together, (0, 0, 0, 0, 0, CHANNELS - together.shape[1]))
    return padded.contiguous(memory_format=torch.channels_last)


def space_to_depth(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``[N, 16, ceil(H / 2) + 3, ceil(W / 2) + 3]``, channels-last.

    At (p, q), in channel 6b + 3b' + c, is channel c of pixel (2(p - 2) + b, 2(q - 2) + b'), 0 outside the image.
    Differentiable in ``x``; on a GPU by a kernel, where no gradient is asked for.
    """
    if x.device.type == "cuda" and not x.requires_grad:
        return _space_to_depth(x, dtype)
    return space_to_depth_reference(x, dtype)


def space_to_depth_reference(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Specify :func:`space_to_depth` of ``[N, 3, H, W]``."""
    height, width = sides(x)
    padded = F.pad(x.to(dtype), (4, 2 * width - 4 - x.shape[3], 4, 2 * height - 4 - x.shape[2]))
    blocks = padded.unflatten(3, (width, 2)).unflatten(2, (height, 2))  # N, c, p, b, q, b'
    together = blocks.permute(0, 2, 4, 3, 5, 1).flatten(3)
    return F.pad(together, (0, CHANNELS - together.shape[3])).permute(0, 3, 1, 2)


def sides(x: Tensor) -> tuple[int, int]:
    """Return the height and width of what :func:`space_to_depth` makes of ``x`` ``[N, 3, H, W]``."""
    return (x.shape[2] + 1) // 2 + 3, (x.shape[3] + 1) // 2 + 3


def _by_kernel(x: Tensor, dtype: torch.dtype) -> Tensor:
    from .triton import stem_conv as kernels

    height, width = sides(x)
    out = x.new_empty(x.shape[0], height, width, CHANNELS, dtype=dtype)
    kernels.space_to_depth(x.permute(CHANNELS_LAST).contiguous(), out)
    return out.permute(0, 3, 1, 2)


def _empty(x, dtype):  # type: ignore[no-untyped-def]
    height, width = sides(x)
    return x.new_empty(x.shape[0], height, width, CHANNELS, dtype=dtype).permute(0, 3, 1, 2)


_space_to_depth = traceable("space_to_depth", _by_kernel, _empty)


def supports(x: Tensor, weight: Tensor, stride: tuple[int, ...], padding: tuple[int, ...]) -> str | None:
    """Return why a convolution of ``x`` ``[N, C, H, W]`` is none of these, or not faster so, or None."""
    if tuple(weight.shape[1:]) != (3, 7, 7) or stride != (2, 2) or padding != (3, 3):
        return "not 7x7 of 3 channels with stride 2 and padding 3"
    if not torch.is_grad_enabled():
        return "inference keeps the plain convolution"
    if x.device.type == "cuda":
        low = torch.is_autocast_enabled("cuda") or weight.dtype in (torch.float16, torch.bfloat16)
        return None if low else "fp32, which has no tensor cores without rounding to TF32"
    return None
