"""An image and its label, decoded, and what must hold between them."""

import numpy as np
from numpy.typing import NDArray

from deeplab_fast.errors import UserError
from deeplab_fast.ops import decode_image, decode_label

from .sources import Sample

Image = NDArray[np.uint8]


def decode_pair(sample: Sample) -> tuple[Image, Image]:
    """Decoded image and label of a sample, of the same size.

    Raises:
        UserError: one cannot be decoded or their sizes differ; names the files.
    """
    image = decode_image(sample.image, sample.image_where)
    label = decode_label(sample.label, sample.label_where)
    if image.shape[:2] != label.shape:
        raise UserError(
            f"{sample.label_where}: {label.shape[1]}x{label.shape[0]} pixels; expected"
            f" {image.shape[1]}x{image.shape[0]} as its image"
        )
    return image, label


def check_values(label: Image, where: str, num_classes: int, ignore_label: int) -> None:
    """Raise :class:`UserError` naming the file and the first value that is neither a class nor the ignore label."""
    if int(label.max(initial=0)) < num_classes:
        return
    wrong = (label >= num_classes) & (label != ignore_label)
    if wrong.any():
        raise value_error(int(label[wrong][0]), where, num_classes, ignore_label)


def value_error(value: int, where: str, num_classes: int, ignore_label: int) -> UserError:
    """For a label value that is neither a class nor the ignore label."""
    return UserError(
        f"{where}: label value {value}; expected 0 to {num_classes - 1} (--num_classes={num_classes}) or"
        f" {ignore_label} (--ignore_label)"
    )
