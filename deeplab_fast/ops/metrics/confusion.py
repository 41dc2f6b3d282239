"""Counting pairs of true and predicted classes."""

import torch
from torch import Tensor

from deeplab_fast.errors import UserError

from .. import extension

_NATIVE_TYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_NONE_WRONG = torch.iinfo(torch.int64).max  # no pixel is out of range


def confusion_matrix(labels: Tensor, predictions: Tensor, num_classes: int, ignore_label: int) -> Tensor:
    """Count the pixels of true class ``i`` predicted as ``j``.

    Args:
        labels: integer tensor of any shape and integer dtype; ``ignore_label`` does not count.
        predictions: integer tensor of the same shape, values in ``[0, num_classes)`` where the label counts.

    Returns:
        int64 ``[num_classes, num_classes]`` on the inputs' device. Waits for the device.

    Raises:
        UserError: a label is neither a class nor the ignore label, or a prediction is not a class (names the
            first such value); or the tensors differ in shape or device.
    """
    counter = ConfusionCounter(num_classes, ignore_label, labels.device)
    counter.add(labels, predictions)
    index = counter.first_wrong()
    if index is not None:
        refuse(int(labels.reshape(-1)[index]), int(predictions.reshape(-1)[index]), num_classes, ignore_label)
    return counter.total()


class ConfusionCounter:
    """A confusion matrix that grows batch by batch; with the extension nothing waits for a GPU before :meth:`total`."""

    def __init__(self, num_classes: int, ignore_label: int, device: torch.device) -> None:
        self.num_classes, self.ignore_label = num_classes, ignore_label
        self._counts = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)
        # The least index, in its own batch, of a pair that is out of range.
        self._wrong = torch.full((), _NONE_WRONG, dtype=torch.int64, device=device) if device.type == "cuda" else None

    def add(self, labels: Tensor, predictions: Tensor) -> None:
        """Count the pairs of two tensors of one shape, as :func:`confusion_matrix` takes them.

        Raises:
            UserError: they differ in shape or device; on a CPU, or without the extension, also a value out of range.
        """
        if labels.shape != predictions.shape:
            raise UserError(
                f"labels {tuple(labels.shape)} and predictions {tuple(predictions.shape)}: expected one shape"
            )
        if labels.device != predictions.device:
            raise UserError(f"labels on {labels.device}, predictions on {predictions.device}: expected one device")
        native = (extension.cuda_on(labels.device) if labels.is_cuda else extension.load())[0]
        classes, ignore_label = self.num_classes, self.ignore_label
        if native is None or not {labels.dtype, predictions.dtype} <= {*_NATIVE_TYPES}:
            self._counts += confusion_matrix_reference(labels, predictions, classes, ignore_label)
            return
        labels, predictions = labels.contiguous(), predictions.contiguous()
        if self._wrong is None:
            wrong = native.count_pairs(labels.numpy(), predictions.numpy(), classes, ignore_label, self._counts.numpy())
            if wrong is not None:
                at = wrong[1]
                refuse(int(labels.view(-1)[at]), int(predictions.view(-1)[at]), classes, ignore_label)
            return
        with torch.cuda.device(labels.device):
            native.count_pairs_cuda(
                labels=labels.data_ptr(),
                label_type=_type_name(labels),
                predictions=predictions.data_ptr(),
                prediction_type=_type_name(predictions),
                pixels=labels.numel(),
                classes=classes,
                ignore_label=ignore_label,
                counts=self._counts.data_ptr(),
                wrong=self._wrong.data_ptr(),
                stream=torch.cuda.current_stream(labels.device).cuda_stream,
            )

    def first_wrong(self) -> int | None:
        """Return the least index of a pair that is out of range, or None. Waits for the device."""
        found = _NONE_WRONG if self._wrong is None else int(self._wrong)
        return None if found == _NONE_WRONG else found

    def total(self) -> Tensor:
        """Return the counts: int64 ``[num_classes, num_classes]``, rows truth. Waits for the device.

        Raises:
            UserError: a pair was out of range.
        """
        if self.first_wrong() is not None:
            raise UserError(
                f"a label or a prediction is out of range; expected 0 to {self.num_classes - 1} or, of labels, the"
                f" ignore label {self.ignore_label}"
            )
        return self._counts


def _type_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def refuse(label: int, prediction: int, num_classes: int, ignore_label: int) -> None:
    """Raise for a pair of which one is out of range."""
    if not 0 <= label < num_classes:
        raise UserError(f"label {label}: expected 0 to {num_classes - 1} or the ignore label {ignore_label}")
    raise UserError(f"prediction {prediction}: expected 0 to {num_classes - 1}")


def confusion_matrix_reference(labels: Tensor, predictions: Tensor, num_classes: int, ignore_label: int) -> Tensor:
    """Specify :func:`confusion_matrix`, in plain torch: ``[num_classes, num_classes]``."""
    labels, predictions = labels.reshape(-1).long(), predictions.reshape(-1).long()
    keep = labels != ignore_label
    labels, predictions = labels[keep], predictions[keep]
    wrong = (labels < 0) | (labels >= num_classes) | (predictions < 0) | (predictions >= num_classes)
    if wrong.any():
        refuse(int(labels[wrong][0]), int(predictions[wrong][0]), num_classes, ignore_label)
    counts = torch.bincount(labels * num_classes + predictions, minlength=num_classes * num_classes)
    return counts.view(num_classes, num_classes)
