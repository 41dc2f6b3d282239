"""An image and its label, decoded, and what must hold between them."""

import numpy as np
from numpy.typing import NDArray

from deeplab_fast.errors import UserError
from deeplab_fast.ops import DEFAULT_DECODING, Decoding, decode_image, decode_label, exif_orientation, is_transposed

from .sources import Sample, Source

Image = NDArray[np.uint8]


def decode_pair(sample: Sample, decoding: Decoding = DEFAULT_DECODING) -> tuple[Image, Image]:
    """Decode a sample: image uint8 ``[H, W, 3]`` and label uint8 ``[H, W]``.

    Raises:
        UserError: one cannot be decoded or their sizes differ; names the files.
    """
    image = decode_image(sample.image, sample.image_where, decoding)
    label = decode_label(sample.label, sample.label_where, decoding)
    size = image.shape[0], image.shape[1]
    if size != label.shape:
        raise size_error(sample, size, label.shape, decoding)
    return image, label


def read_pair(
    source: Source, index: int, num_classes: int, ignore_label: int, decoding: Decoding = DEFAULT_DECODING
) -> tuple[Image, Image]:
    """Read and decode sample ``index``: image uint8 ``[H, W, 3]`` and label uint8 ``[H, W]``, fit for use.

    Raises:
        UserError: it cannot be read or decoded, the sizes differ, or a label value is invalid; names the file.
    """
    sample = source.read(index)
    image, label = decode_pair(sample, decoding)
    check_values(label, sample.label_where, num_classes, ignore_label)
    return image, label


def size_error(sample: Sample, size: tuple[int, int], label: tuple[int, ...], decoding: Decoding) -> UserError:
    """Make the error of an image and a label of different (height, width); says where EXIF orientation explains it."""
    turn = turn_between(sample.image, size, label, decoding)
    return UserError(
        f"{sample.label_where}: {label[1]}x{label[0]} pixels; expected {size[1]}x{size[0]} as its image{turn}"
    )


def turn_between(image: bytes, size: tuple[int, int], label: tuple[int, ...], decoding: Decoding) -> str:
    """Return words for the end of a message where the label fits the image turned the other way, or nothing."""
    orientation = exif_orientation(image)
    if not is_transposed(orientation) or size[::-1] != label:
        return ""
    if decoding.apply_exif:
        return f" after EXIF orientation {orientation}; it fits the image as it is stored: --exif=ignore"
    return f" as it is stored; it fits the image turned by EXIF orientation {orientation}: --exif=apply"


def check_values(label: Image, where: str, num_classes: int, ignore_label: int) -> None:
    """Raise :class:`UserError` where a label ``[H, W]`` has an invalid value; names the file and the value."""
    if int(label.max(initial=0)) < num_classes:
        return
    wrong = (label >= num_classes) & (label != ignore_label)
    if wrong.any():
        raise value_error(int(label[wrong][0]), where, num_classes, ignore_label)


def value_error(value: int, where: str, num_classes: int, ignore_label: int) -> UserError:
    """Make the error of a label value that is neither a class nor the ignore label."""
    return UserError(
        f"{where}: label value {value}; expected 0 to {num_classes - 1} (--num_classes={num_classes}) or"
        f" {ignore_label} (--ignore_label)"
    )
