"""Bilinear upsampling and softmax cross-entropy in one op, from low-resolution logits.

The full-resolution logits (``N*C*H*W`` floats, 708 MB at batch 32, crop 513, 21 classes) never
exist: the op works through bands of output rows and forms the gradient in the same sweep, while a
band's probabilities are at hand. Upsampling is linear, ``U = A X B^T`` for each channel, so the
gradient is the gather ``A^T G B``: deterministic, without scattered additions.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .upsample import interpolation_matrix, upsample

_BAND_BYTES = 4 << 20  # a band's probabilities stay in a CPU core's cache


def upsample_ce_reference(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None,
    ignore_label: int,
    label_smoothing: float,
    align_corners: bool,
) -> tuple[Tensor, Tensor]:
    """The specification of :func:`upsample_ce`, with every intermediate at full resolution."""
    full = upsample(logits, (labels.shape[1], labels.shape[2]), align_corners)
    target = labels.long()
    total = F.cross_entropy(
        full,
        target,
        class_weights,
        ignore_index=ignore_label,
        reduction="sum",
        label_smoothing=label_smoothing,
    )
    return total, normaliser(labels, logits.shape[1], class_weights, ignore_label)


def normaliser(labels: Tensor, num_classes: int, class_weights: Tensor | None, ignore_label: int) -> Tensor:
    """Sum of the pixels' weights: the divisor that makes the loss a mean. A 0-d fp32 tensor, no synchronisation."""
    valid, target = _targets(labels, num_classes, ignore_label)
    if class_weights is None:
        return valid.sum().float()
    return torch.where(valid, class_weights[target], 0.0).sum().float()


def _targets(labels: Tensor, num_classes: int, ignore_label: int) -> tuple[Tensor, Tensor]:
    """Which pixels count, and int64 class indexes that are in range everywhere (0 where they do not)."""
    wide = labels.long()  # first: 256 classes do not fit a comparison in uint8
    valid = (wide != ignore_label) & (wide >= 0) & (wide < num_classes)
    return valid, torch.where(valid, wide, 0)


def upsample_ce(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None = None,
    ignore_label: int = 255,
    label_smoothing: float = 0.0,
    align_corners: bool = True,
) -> tuple[Tensor, Tensor]:
    """Sum of the cross-entropy of ``upsample(logits)`` over the labelled pixels, and their weight.

    Args:
        logits: ``[N, C, h, w]``, any float dtype; arithmetic is fp32 (fp64 for fp64).
        labels: ``[N, H, W]`` uint8 or integer class indexes. Pixels equal to ``ignore_label`` do
            not count; neither do values outside ``[0, C)``, which are never used as an index.
        class_weights: ``[C]`` fp32 or None for ones.
        label_smoothing: as in ``torch.nn.functional.cross_entropy``.
        align_corners: the upsampling's convention.

    Returns:
        ``(total, weight)``, 0-d fp32: the mean loss is ``total / weight``. ``total`` is
        differentiable with respect to ``logits``, once.
    """
    total, weight, _ = _upsample_ce(logits, labels, class_weights, ignore_label, label_smoothing, align_corners)
    return total, weight


@torch.library.custom_op("deeplab_fast::upsample_ce", mutates_args=())
def _upsample_ce(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None,
    ignore_label: int,
    label_smoothing: float,
    align_corners: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    work = torch.float64 if logits.dtype == torch.float64 else torch.float32
    rows = interpolation_matrix(logits.shape[2], labels.shape[1], align_corners, work, logits.device)
    cols = interpolation_matrix(logits.shape[3], labels.shape[2], align_corners, work, logits.device)
    with torch.autocast(logits.device.type, enabled=False):
        return _sweep(logits.to(work), labels, class_weights, ignore_label, label_smoothing, rows, cols)


def _sweep(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None,
    ignore_label: int,
    label_smoothing: float,
    rows: Tensor,
    cols: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, weight and gradient in one pass over bands of rows; ``rows`` ``[H, h]``, ``cols`` ``[W, w]``."""
    work = logits.dtype
    n, c, h, w = logits.shape
    height, width = labels.shape[1], labels.shape[2]
    gradient = torch.empty(n, c, h, w, dtype=work, device=logits.device)
    total = torch.zeros((), dtype=work, device=logits.device)
    weights = None if class_weights is None else class_weights.to(work)
    band = max(1, _BAND_BYTES // (c * width * work.itemsize)) if logits.device.type == "cpu" else height
    for i in range(n):
        stretched = logits[i] @ cols.t()  # [c, h, W]
        folded = torch.zeros(c, h, width, dtype=work, device=logits.device)
        for top in range(0, height, band):
            part = rows[top : top + band]  # [b, h]
            scores = (part @ stretched.transpose(0, 1).reshape(h, c * width)).view(-1, c, width)
            label = labels[i, top : top + band]
            loss, slope = _pixel_loss(scores, label, weights, ignore_label, label_smoothing)
            total += loss
            b = slope.shape[0]
            folded += (part.t() @ slope.view(b, c * width)).view(h, c, width).transpose(0, 1)
        gradient[i] = folded @ cols
    weight = normaliser(labels, c, class_weights, ignore_label)
    return total, weight, gradient


def _pixel_loss(
    scores: Tensor, labels: Tensor, weights: Tensor | None, ignore_label: int, smoothing: float
) -> tuple[Tensor, Tensor]:
    """Summed loss of a band and its slope: ``scores`` ``[b, C, W]``, ``labels`` ``[b, W]`` -> 0-d, ``[b, C, W]``."""
    c = scores.shape[1]
    valid, target = _targets(labels, c, ignore_label)
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


@_upsample_ce.register_fake
def _(logits, labels, class_weights, ignore_label, label_smoothing, align_corners):  # type: ignore[no-untyped-def]
    work = torch.float64 if logits.dtype == torch.float64 else torch.float32
    scalar = logits.new_empty((), dtype=work)
    return scalar, logits.new_empty((), dtype=torch.float32), torch.empty_like(logits, dtype=work).contiguous()


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.mark_non_differentiable(output[1], output[2])
    ctx.save_for_backward(output[2])
    ctx.dtype = inputs[0].dtype
    ctx.set_materialize_grads(False)


def _backward(ctx, grad_total, grad_weight, grad_gradient):  # type: ignore[no-untyped-def]
    if grad_total is None:
        return None, None, None, None, None, None
    (gradient,) = ctx.saved_tensors
    return (gradient * grad_total).to(ctx.dtype), None, None, None, None, None


_upsample_ce.register_autograd(_backward, setup_context=_setup_context)


@torch.no_grad()
def upsample_ce_per_pixel(
    logits: Tensor, labels: Tensor, ignore_label: int = 255, align_corners: bool = True
) -> Tensor:
    """Cross-entropy of every pixel, 0 where it does not count: ``[N, C, h, w]``, ``[N, H, W]`` -> fp32 ``[N, H, W]``.

    For selecting hard pixels; not differentiable. One image at a time, so that the full-resolution
    logits of the batch never exist together.
    """
    size = (labels.shape[1], labels.shape[2])
    losses = torch.empty(labels.shape, dtype=torch.float32, device=logits.device)
    for i, label in enumerate(labels):
        valid, target = _targets(label, logits.shape[1], ignore_label)
        full = upsample(logits[i : i + 1].float(), size, align_corners)
        losses[i] = F.cross_entropy(full, target[None], reduction="none")[0] * valid
    return losses
