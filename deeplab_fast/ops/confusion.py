"""Counting pairs of true and predicted classes."""

import torch
from torch import Tensor

from deeplab_fast.errors import UserError

from . import _native

_NATIVE_TYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
NONE_WRONG = torch.iinfo(torch.int64).max  # no pixel is out of range


def confusion_matrix(labels: Tensor, predictions: Tensor, num_classes: int, ignore_label: int) -> Tensor:
    """Number of pixels of true class ``i`` predicted as ``j``.

    Args:
        labels: integer tensor of any shape and integer dtype; ``ignore_label`` does not count.
        predictions: integer tensor of the same shape, values in ``[0, num_classes)`` where the label counts.

    Returns:
        int64 ``[num_classes, num_classes]`` on the inputs' device. Waits for the device.

    Raises:
        UserError: a label is neither a class nor the ignore label, or a prediction is no class (names the
            first such value); or the tensors differ in shape or device.
    """
    if labels.shape != predictions.shape:
        raise UserError(f"labels {tuple(labels.shape)} and predictions {tuple(predictions.shape)}: expected one shape")
    if labels.device != predictions.device:
        raise UserError(f"labels on {labels.device}, predictions on {predictions.device}: expected one device")
    native = (_native.cuda_on(labels.device) if labels.is_cuda else _native.load())[0]
    if native is None or not {labels.dtype, predictions.dtype} <= {*_NATIVE_TYPES}:
        return confusion_matrix_reference(labels, predictions, num_classes, ignore_label)
    labels, predictions = labels.contiguous(), predictions.contiguous()
    counts = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=labels.device)
    index: int | None = None
    if labels.is_cuda:
        first = torch.full((), NONE_WRONG, dtype=torch.int64, device=labels.device)
        with torch.cuda.device(labels.device):
            native.count_pairs_cuda(
                labels=labels.data_ptr(),
                label_type=type_name(labels),
                predictions=predictions.data_ptr(),
                prediction_type=type_name(predictions),
                pixels=labels.numel(),
                classes=num_classes,
                ignore_label=ignore_label,
                counts=counts.data_ptr(),
                wrong=first.data_ptr(),
                stream=torch.cuda.current_stream(labels.device).cuda_stream,
            )
        index = int(first) if int(first) != NONE_WRONG else None
    else:
        wrong = native.count_pairs(labels.numpy(), predictions.numpy(), num_classes, ignore_label, counts.numpy())
        index = None if wrong is None else wrong[1]
    if index is not None:
        refuse(int(labels.view(-1)[index]), int(predictions.view(-1)[index]), num_classes, ignore_label)
    return counts


def type_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def refuse(label: int, prediction: int, num_classes: int, ignore_label: int) -> None:
    """Raise for a pair of which one is out of range."""
    if not 0 <= label < num_classes:
        raise UserError(f"label {label}: expected 0 to {num_classes - 1} or the ignore label {ignore_label}")
    raise UserError(f"prediction {prediction}: expected 0 to {num_classes - 1}")


def confusion_matrix_reference(labels: Tensor, predictions: Tensor, num_classes: int, ignore_label: int) -> Tensor:
    """:func:`confusion_matrix` in plain torch."""
    labels, predictions = labels.reshape(-1).long(), predictions.reshape(-1).long()
    keep = labels != ignore_label
    labels, predictions = labels[keep], predictions[keep]
    wrong = (labels < 0) | (labels >= num_classes) | (predictions < 0) | (predictions >= num_classes)
    if wrong.any():
        refuse(int(labels[wrong][0]), int(predictions[wrong][0]), num_classes, ignore_label)
    counts = torch.bincount(labels * num_classes + predictions, minlength=num_classes * num_classes)
    return counts.view(num_classes, num_classes)
