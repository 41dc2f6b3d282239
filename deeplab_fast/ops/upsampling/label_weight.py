"""The weight of a batch's labels, the divisor that makes a sum of losses a mean; and the invalid labels."""

import torch
from torch import Tensor

from ..dispatch import traceable, use_kernels
from .labels import LABEL_TYPES, bad_labels, targets


def label_weight_reference(
    labels: Tensor, num_classes: int, class_weights: Tensor | None, ignore_label: int
) -> tuple[Tensor, Tensor]:
    """Specify :func:`label_weight`: a 0-dim weight and ``bad`` ``[2]``."""
    valid, target = targets(labels, num_classes, ignore_label)
    if class_weights is None:
        return valid.sum().float(), bad_labels(labels, valid, ignore_label)
    weight = torch.where(valid, class_weights[target], 0.0).sum().float()
    return weight, bad_labels(labels, valid, ignore_label)


def label_weight(
    labels: Tensor,
    num_classes: int,
    class_weights: Tensor | None = None,
    ignore_label: int = 255,
    fused: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Sum the weights of the labels, by which a mean over labelled pixels divides, and count the invalid labels.

    Args:
        labels: integers ``[N, H, W]``.
        class_weights: fp32 ``[num_classes]`` or None for ones.

    Returns:
        ``weight``, fp32 0-d: the sum of the weights of the labels in ``[0, num_classes)`` that are not
        ``ignore_label``; and ``bad``, int32 ``[2]``: how many labels are neither, and the largest of them
        (:data:`~deeplab_fast.ops.NO_LABEL` where there is none). Both stay on the device: nothing waits for it.
    """
    unsupported = None if labels.dtype in LABEL_TYPES else f"labels are {labels.dtype}; expected integers"
    if use_kernels("label_weight", fused, labels.device, unsupported):
        return _label_weight(labels, num_classes, class_weights, ignore_label)
    return label_weight_reference(labels, num_classes, class_weights, ignore_label)


def _by_kernel(
    labels: Tensor, num_classes: int, class_weights: Tensor | None, ignore_label: int
) -> tuple[Tensor, Tensor]:
    from .triton import label_weight as kernels

    return kernels.label_weight(labels.contiguous(), num_classes, class_weights, ignore_label)


def _empty(labels, num_classes, class_weights, ignore_label):  # type: ignore[no-untyped-def]
    return labels.new_empty((), dtype=torch.float32), labels.new_empty(2, dtype=torch.int32)


_label_weight = traceable("label_weight", _by_kernel, _empty)
