"""Loss and gradient of upsampling + cross-entropy through torch operations, a band of output rows at a time.

It serves where neither the kernels nor the extension do, in fp64 too.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .labels import targets
from .upsample import interpolation_matrix

_BAND_BYTES = 4 << 20  # a band's probabilities stay in a CPU core's cache


class LossSettings(NamedTuple):
    """Arguments of :func:`~deeplab_fast.ops.upsample_ce` beside its two inputs."""

    class_weights: Tensor | None
    ignore_label: int
    label_smoothing: float
    align_corners: bool


def sweep(logits: Tensor, labels: Tensor, settings: LossSettings, gradient: Tensor | None) -> Tensor:
    """Sum the loss, 0-dim, in the dtype of ``logits`` ``[N, C, h, w]``; fills ``gradient``, which is like them."""
    class_weights, ignore_label, label_smoothing, align_corners = settings
    work, device = logits.dtype, logits.device
    n, c, h, w = logits.shape
    height, width = labels.shape[1], labels.shape[2]
    rows = interpolation_matrix(h, height, align_corners, work, device)
    cols = interpolation_matrix(w, width, align_corners, work, device)
    total = torch.zeros((), dtype=work, device=device)
    weights = None if class_weights is None else class_weights.to(work)
    band = max(1, _BAND_BYTES // (c * width * work.itemsize)) if device.type == "cpu" else height
    for i in range(n):
        stretched = logits[i] @ cols.t()  # [c, h, W]
        folded = torch.zeros(c, h, width, dtype=work, device=device)
        for top in range(0, height, band):
            part = rows[top : top + band]  # [b, h]
            scores = (part @ stretched.transpose(0, 1).reshape(h, c * width)).view(-1, c, width)
            label = labels[i, top : top + band]
            loss, slope = _pixel_loss(scores, label, weights, ignore_label, label_smoothing)
            total += loss
            if gradient is not None:
                b = slope.shape[0]
                folded += (part.t() @ slope.view(b, c * width)).view(h, c, width).transpose(0, 1)
        if gradient is not None:
            gradient[i] = folded @ cols
    return total


def _pixel_loss(
    scores: Tensor, labels: Tensor, weights: Tensor | None, ignore_label: int, smoothing: float
) -> tuple[Tensor, Tensor]:
    """Return a band's loss, 0-dim, and slope ``[b, C, W]`` from ``scores`` ``[b, C, W]`` and ``labels`` ``[b, W]``."""
    c = scores.shape[1]
    valid, target = targets(labels, c, ignore_label)
    target = target.unsqueeze(1)
    mask = valid.to(scores.dtype).unsqueeze(1)
    log_p = scores.log_softmax(dim=1)
    pixel = mask if weights is None else weights[target] * mask
    loss = -(log_p.gather(1, target) * pixel).sum() * (1.0 - smoothing)
    slope = log_p.exp()
    if smoothing == 0.0:
        slope *= pixel
        slope.scatter_add_(1, target, -pixel)
        return loss, slope
    spread = torch.ones(c, dtype=scores.dtype, device=scores.device) if weights is None else weights
    spread = (spread * (smoothing / c)).view(1, c, 1)
    loss = loss - (log_p * spread * mask).sum()
    slope *= pixel * (1.0 - smoothing) + mask * spread.sum()
    slope.scatter_add_(1, target, -pixel * (1.0 - smoothing))
    slope -= spread * mask
    return loss, slope
