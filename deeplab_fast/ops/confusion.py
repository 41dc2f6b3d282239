"""Counting pairs of true and predicted classes."""

import torch
from torch import Tensor

from deeplab_fast.errors import UserError


def confusion_matrix(labels: Tensor, predictions: Tensor, num_classes: int, ignore_label: int) -> Tensor:
    """Number of pixels of true class ``i`` predicted as ``j``.

    Args:
        labels: integer tensor of any shape and integer dtype; ``ignore_label`` does not count.
        predictions: integer tensor of the same shape, values in ``[0, num_classes)``.

    Returns:
        int64 ``[num_classes, num_classes]`` on the inputs' device.

    Raises:
        UserError: a label is neither a class nor the ignore label; names the value.
    """
    labels, predictions = labels.reshape(-1).long(), predictions.reshape(-1).long()
    keep = labels != ignore_label
    labels, predictions = labels[keep], predictions[keep]
    wrong = (labels < 0) | (labels >= num_classes)
    if wrong.any():
        value = int(labels[wrong][0])
        raise UserError(f"label {value}: expected 0 to {num_classes - 1} or the ignore label {ignore_label}")
    counts = torch.bincount(labels * num_classes + predictions, minlength=num_classes * num_classes)
    return counts.view(num_classes, num_classes)
