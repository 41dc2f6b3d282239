"""Bilinear upsampling and softmax cross-entropy in one op, from low-resolution logits.

The full-resolution logits (``N*C*H*W`` floats, 708 MB at batch 32, crop 513, 21 classes) never exist: the
gradient is formed in the same sweep over the output pixels as the loss. Upsampling is linear,
``U = A X B^T`` for each channel, so the gradient is the gather ``A^T G B``: deterministic, without
scattered additions. A GPU runs Triton kernels, a CPU the extension or bands of torch operations.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .. import extension
from ..dispatch import differentiable, traceable, use_kernels
from ..triton import DTYPES, INTERPRETED
from .label_weight import label_weight_reference
from .labels import LABEL_TYPES, MOST_CLASSES, NO_LABEL, targets
from .upsample import upsample
from .upsample_ce_bands import LossSettings, sweep


class SummedLoss(NamedTuple):
    """Result of :func:`upsample_ce`: fp32 0-dim ``total`` and ``weight``, their quotient being the mean loss; and
    ``bad`` as of :func:`~deeplab_fast.ops.label_weight`."""

    total: Tensor
    weight: Tensor
    bad: Tensor


def upsample_ce_reference(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None,
    ignore_label: int,
    label_smoothing: float,
    align_corners: bool,
) -> SummedLoss:
    """Specify :func:`upsample_ce`, with logits of full resolution ``[N, C, H, W]``."""
    full = upsample(logits, (labels.shape[1], labels.shape[2]), align_corners)
    valid, target = targets(labels, logits.shape[1], ignore_label)
    total = F.cross_entropy(
        full,
        torch.where(valid, target, -100),
        class_weights,
        ignore_index=-100,
        reduction="sum",
        label_smoothing=label_smoothing,
    )
    return SummedLoss(total, *label_weight_reference(labels, logits.shape[1], class_weights, ignore_label))


def upsample_ce(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None = None,
    ignore_label: int = 255,
    label_smoothing: float = 0.0,
    align_corners: bool = True,
    fused: str = "auto",
) -> SummedLoss:
    """Sum the cross-entropy of ``upsample(logits)`` over the labelled pixels, and their weight.

    Args:
        logits: ``[N, C, h, w]``, any float dtype and strides; arithmetic is fp32 (fp64 for fp64).
        labels: ``[N, H, W]`` uint8 or signed integers. Pixels equal to ``ignore_label`` do not count;
            neither do values outside ``[0, C)``, which are never used as an index but counted in ``bad``.
        class_weights: ``[C]`` fp32 or None for ones.
        label_smoothing: as in ``torch.nn.functional.cross_entropy``.
        align_corners: the upsampling's convention.
        fused: ``off`` is the reference; ``auto`` and ``on`` never make a tensor of full resolution, see
            :func:`~deeplab_fast.ops.dispatch.use_kernels` for the kernels.

    Returns:
        :class:`SummedLoss`. ``total`` is differentiable with respect to ``logits``, once.

    Raises:
        UserError: ``fused`` is ``on`` and no fast path exists here; says why.
    """
    if fused == "off":
        wide = logits if logits.dtype == torch.float64 else logits.float()
        return upsample_ce_reference(wide, labels, class_weights, ignore_label, label_smoothing, align_corners)
    kernels = wants_kernels("upsample_ce", logits, labels, fused)
    gradient = torch.is_grad_enabled() and logits.requires_grad
    found = _upsample_ce(logits, labels, class_weights, ignore_label, label_smoothing, align_corners, gradient, kernels)
    return SummedLoss(*found[:3])


def wants_kernels(op: str, logits: Tensor, labels: Tensor, fused: str) -> bool:
    """Tell whether the kernels take ``logits`` ``[N, C, h, w]``; with ``fused=on`` the extension may do it on a CPU."""
    if fused == "on" and not INTERPRETED and has_native(logits):
        return False
    return use_kernels(op, fused, logits.device, supports(logits, labels))


def supports(logits: Tensor, labels: Tensor) -> str | None:
    """Return why the kernels cannot take ``logits`` ``[N, C, h, w]`` and ``labels`` ``[N, H, W]``, or None."""
    if logits.dtype not in DTYPES:
        return f"logits are {logits.dtype}; expected fp32, fp16 or bf16"
    if labels.dtype not in LABEL_TYPES:
        return f"labels are {labels.dtype}; expected integers"
    if logits.shape[1] > MOST_CLASSES:
        return f"{logits.shape[1]} classes; expected at most {MOST_CLASSES}"
    return None if labels.numel() else "there are no pixels"


def _forward(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None,
    ignore_label: int,
    label_smoothing: float,
    align_corners: bool,
    with_gradient: bool,
    kernels: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return total, weight, bad labels, and the gradient of the total (empty unless asked for)."""
    gradient = _gradient_like(logits, with_gradient)
    filled = gradient if with_gradient else None
    settings = LossSettings(class_weights, ignore_label, label_smoothing, align_corners)
    if kernels:
        from .triton import upsample_ce as fast

        return *fast.upsample_ce(logits, labels.contiguous(), *settings, filled), gradient
    if has_native(logits):
        return *_native_sweep(logits, labels, settings, filled), gradient
    with torch.autocast(logits.device.type, enabled=False):
        total = sweep(logits if logits.dtype == torch.float64 else logits.float(), labels, settings, filled)
    return total, *label_weight_reference(labels, logits.shape[1], class_weights, ignore_label), gradient


def has_native(logits: Tensor) -> bool:
    """Tell whether the extension takes ``logits`` ``[N, C, h, w]``."""
    fits = logits.device.type == "cpu" and logits.dtype != torch.float64 and 2 <= logits.shape[1] <= MOST_CLASSES
    return fits and extension.load()[0] is not None


def _native_sweep(
    logits: Tensor, labels: Tensor, settings: LossSettings, gradient: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return total, weight and bad labels from the extension, on the CPU; fills ``gradient``."""
    native = extension.load()[0]
    assert native is not None
    class_weights, ignore_label, label_smoothing, align_corners = settings
    pixels = logits.float().permute(0, 2, 3, 1).contiguous()
    slopes = torch.empty_like(pixels)
    total, weight, count, largest = native.upsample_ce(
        pixels.numpy(),
        native_labels(labels),
        None if class_weights is None else class_weights.float().contiguous().numpy(),
        ignore_label,
        label_smoothing,
        align_corners,
        torch.get_num_threads(),
        slopes.numpy(),
    )
    if gradient is not None:
        gradient.copy_(slopes.permute(0, 3, 1, 2))
    bad = torch.tensor([count, largest if count else NO_LABEL]).clamp(NO_LABEL, -NO_LABEL - 1)
    return torch.tensor(total, dtype=torch.float32), torch.tensor(weight, dtype=torch.float32), bad.to(torch.int32)


def native_labels(labels: Tensor) -> np.ndarray:
    """Return labels ``[N, H, W]`` as the extension takes them: uint8 or int64, contiguous."""
    wide = labels if labels.dtype == torch.uint8 else labels.long()
    return wide.contiguous().numpy()


def _gradient_like(logits: Tensor, wanted: bool) -> Tensor:
    """Make a gradient stored as the logits are where they are dense, and of their type.

    Of fp16 it is fp32: a sum of 256 pixels' slopes with a large class weight exceeds fp16's range.
    """
    dtype = torch.float32 if logits.dtype == torch.float16 else logits.dtype
    return torch.empty_like(logits, dtype=dtype) if wanted else logits.new_empty(0, dtype=dtype)


def _empty(logits, labels, class_weights, ignore_label, label_smoothing, align_corners, with_gradient, kernels):  # type: ignore[no-untyped-def]
    gradient = _gradient_like(logits, with_gradient)
    total = logits.new_empty((), dtype=torch.float64 if logits.dtype == torch.float64 else torch.float32)
    bad = logits.new_empty(2, dtype=torch.int32)
    return total, logits.new_empty((), dtype=torch.float32), bad, gradient


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(output[3])
    ctx.kernels, ctx.dtype = inputs[-1], inputs[0].dtype
    ctx.set_materialize_grads(False)


def _backward(ctx, grad_total, *_):  # type: ignore[no-untyped-def]
    if grad_total is None:
        return (None,) * 8
    (gradient,) = ctx.saved_tensors
    if ctx.kernels:
        return _scale(gradient, grad_total, ctx.dtype), *(None,) * 7
    wide = gradient if gradient.dtype == torch.float64 else gradient.float()
    return (wide * grad_total).to(ctx.dtype), *(None,) * 7


def _scaled(gradient: Tensor, factor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``gradient * factor`` without a wider copy between."""
    from .triton import upsample_ce as fast

    scaled = torch.empty_like(gradient, dtype=dtype)
    fast.scale(gradient, factor, scaled)
    return scaled


def _empty_scaled(gradient, factor, dtype):  # type: ignore[no-untyped-def]
    return torch.empty_like(gradient, dtype=dtype)


_scale = traceable("upsample_ce_scale", _scaled, _empty_scaled)
_upsample_ce = differentiable("upsample_ce", _forward, _empty, _setup_context, _backward)
