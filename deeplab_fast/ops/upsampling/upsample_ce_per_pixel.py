"""The losses of ``upsample_ce``, one a pixel: what selects hard examples."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import extension
from ..dispatch import traceable
from .labels import targets
from .upsample import upsample
from .upsample_ce import has_native, native_labels, wants_kernels


def upsample_ce_per_pixel_reference(logits: Tensor, labels: Tensor, ignore_label: int, align_corners: bool) -> Tensor:
    """Specify :func:`upsample_ce_per_pixel` ``[N, H, W]``; one image at full resolution at a time."""
    size = (labels.shape[1], labels.shape[2])
    wide = logits if logits.dtype == torch.float64 else logits.float()
    losses = torch.empty(labels.shape, dtype=torch.float32, device=logits.device)
    for i, label in enumerate(labels):
        valid, target = targets(label, logits.shape[1], ignore_label)
        full = upsample(wide[i : i + 1], size, align_corners)
        losses[i] = F.cross_entropy(full, target[None], reduction="none")[0] * valid
    return losses


@torch.no_grad()
def upsample_ce_per_pixel(
    logits: Tensor, labels: Tensor, ignore_label: int = 255, align_corners: bool = True, fused: str = "auto"
) -> Tensor:
    """Compute every pixel's cross-entropy, 0 where it does not count: fp32 ``[N, H, W]``.

    Arguments as of :func:`~deeplab_fast.ops.upsample_ce`; not differentiable. The fast path writes one
    float a pixel and no logits.
    """
    if fused == "off":
        return upsample_ce_per_pixel_reference(logits, labels, ignore_label, align_corners)
    kernels = wants_kernels("upsample_ce_per_pixel", logits, labels, fused)
    return _upsample_ce_per_pixel(logits, labels, ignore_label, align_corners, kernels)


def _losses(logits: Tensor, labels: Tensor, ignore_label: int, align_corners: bool, kernels: bool) -> Tensor:
    losses = torch.empty(labels.shape, dtype=torch.float32, device=logits.device)
    if kernels:
        from .triton import upsample_ce_per_pixel as fast

        fast.upsample_ce_per_pixel(logits, labels.contiguous(), ignore_label, align_corners, losses)
    elif has_native(logits):
        pixels = logits.float().permute(0, 2, 3, 1).contiguous().numpy()
        native = extension.load()[0]
        assert native is not None
        native.upsample_ce_per_pixel(
            pixels, native_labels(labels), ignore_label, align_corners, torch.get_num_threads(), losses.numpy()
        )
    else:
        losses = upsample_ce_per_pixel_reference(logits, labels, ignore_label, align_corners)
    return losses


def _empty(logits, labels, ignore_label, align_corners, kernels):  # type: ignore[no-untyped-def]
    return torch.empty(labels.shape, dtype=torch.float32, device=logits.device)


_upsample_ce_per_pixel = traceable("upsample_ce_per_pixel", _losses, _empty)
