"""The weight of a batch's labels, the divisor that makes a sum of losses a mean; and labels that are no class."""

import torch
from torch import Tensor

from .choice import use_kernels

NO_LABEL = torch.iinfo(torch.int32).min  # "the largest bad label" where there is none
LABEL_TYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def targets(labels: Tensor, num_classes: int, ignore_label: int) -> tuple[Tensor, Tensor]:
    """Which pixels count, and int64 class indexes that are in range everywhere (0 where they do not)."""
    wide = labels.long()  # first: 256 classes do not fit a comparison in uint8
    valid = (wide != ignore_label) & (wide >= 0) & (wide < num_classes)
    return valid, torch.where(valid, wide, 0)


def label_weight_reference(
    labels: Tensor, num_classes: int, class_weights: Tensor | None, ignore_label: int
) -> tuple[Tensor, Tensor]:
    """The specification of :func:`label_weight`."""
    valid, target = targets(labels, num_classes, ignore_label)
    if class_weights is None:
        return valid.sum().float(), bad_labels(labels, valid, ignore_label)
    weight = torch.where(valid, class_weights[target], 0.0).sum().float()
    return weight, bad_labels(labels, valid, ignore_label)


def bad_labels(labels: Tensor, valid: Tensor, ignore_label: int) -> Tensor:
    """int32 ``[2]``: how many labels are neither a class nor the ignore label, and the largest of them."""
    wide = labels.long().clamp(min=NO_LABEL, max=torch.iinfo(torch.int32).max)
    bad = ~valid & (wide != ignore_label)
    return torch.stack([bad.sum(), torch.where(bad, wide, NO_LABEL).amax()]).to(torch.int32)


def label_weight(
    labels: Tensor,
    num_classes: int,
    class_weights: Tensor | None = None,
    ignore_label: int = 255,
    fused: str = "auto",
) -> tuple[Tensor, Tensor]:
    """What a mean over labelled pixels divides by, and the labels that are no class.

    Args:
        labels: integers ``[N, H, W]``.
        class_weights: fp32 ``[num_classes]`` or None for ones.

    Returns:
        ``weight``, fp32 0-d: the sum of the weights of the labels in ``[0, num_classes)`` that are not
        ``ignore_label``; and ``bad``, int32 ``[2]``: how many labels are neither, and the largest of them
        (:data:`NO_LABEL` where there is none). Both stay on the device: nothing waits for it.
    """
    unsupported = None if labels.dtype in LABEL_TYPES else f"labels are {labels.dtype}; expected integers"
    if use_kernels("label_weight", fused, labels.device, unsupported):
        return _label_weight(labels, num_classes, class_weights, ignore_label)
    return label_weight_reference(labels, num_classes, class_weights, ignore_label)


@torch.library.custom_op("deeplab_fast::label_weight", mutates_args=())
def _label_weight(
    labels: Tensor, num_classes: int, class_weights: Tensor | None, ignore_label: int
) -> tuple[Tensor, Tensor]:
    from .triton import label_weight as kernels

    return kernels.label_weight(labels.contiguous(), num_classes, class_weights, ignore_label)


@_label_weight.register_fake
def _(labels, num_classes, class_weights, ignore_label):  # type: ignore[no-untyped-def]
    return labels.new_empty((), dtype=torch.float32), labels.new_empty(2, dtype=torch.int32)
