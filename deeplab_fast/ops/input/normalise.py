"""Normalisation: the loader's uint8 images to the network's input."""

import torch
from torch import Tensor

from .. import extension
from ..constants import kept


@kept(32)
def _constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return the values on the device, copied there once: a copy at each step would wait for the device."""
    return torch.tensor(values, device=device)


def normalise(
    images: Tensor, extents: Tensor, mean: tuple[float, ...], std: tuple[float, ...], dtype: torch.dtype
) -> Tensor:
    """Compute ``(image - mean) / std`` per channel, exactly 0 outside the images' valid extents.

    Args:
        images: uint8 ``[N, H, W, 3]``, RGB.
        extents: int32 ``[N, 4]``: top, bottom, left, right of the pixels that are image, not padding
            (bottom and right exclusive).
        mean, std: per channel in RGB order, on the 0-255 scale.
        dtype: of the result.

    Returns:
        ``[N, 3, H, W]`` in channels-last storage.

    Raises:
        ValueError: an extent reaches beyond its image (native, on a CPU).
    """
    native = extension.load()[0]
    if native is None or images.device.type != "cpu" or torch.compiler.is_compiling() or not _plain(images, extents):
        return normalise_reference(images, extents, mean, std, dtype)
    out = torch.empty(images.shape, dtype=torch.float32)
    native.normalise(images.numpy(), extents.numpy(), mean, std, out.numpy())
    return out.to(dtype).permute(0, 3, 1, 2)


def _plain(images: Tensor, extents: Tensor) -> bool:
    """Tell whether memory can be handed on as it is: not so under FakeTensor and the like."""
    ordinary = all(type(t) is Tensor and t.is_contiguous() for t in (images, extents))
    return ordinary and (images.dtype, extents.dtype) == (torch.uint8, torch.int32)


def normalise_reference(
    images: Tensor, extents: Tensor, mean: tuple[float, ...], std: tuple[float, ...], dtype: torch.dtype
) -> Tensor:
    """Specify :func:`normalise`, in plain torch: ``[N, H, W, 3]`` -> ``[N, 3, H, W]``."""
    n, h, w, _ = images.shape
    device = images.device
    x = (images.float() - _constant(mean, device)) / _constant(std, device)
    row = torch.arange(h, device=device).view(1, h)
    col = torch.arange(w, device=device).view(1, w)
    top, bottom, left, right = extents.to(device).view(n, 4, 1).unbind(1)
    inside = ((row >= top) & (row < bottom)).view(n, h, 1, 1) & ((col >= left) & (col < right)).view(n, 1, w, 1)
    x = torch.where(inside, x, 0.0)
    return x.to(dtype).permute(0, 3, 1, 2)
