"""Images that an exported network is tried on: a folder's, or drawn ones of sizes that no example had."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..config import ExportConfig
from ..config.export import SMALLEST_SIDE
from ..data.folders import IMAGE_SUFFIXES, find_images
from ..data.sources import read_bytes
from ..data.synthetic import draw_sample
from ..errors import UserError
from ..evaluation.protocol import longest_side_to, view_of
from ..ops import Decoding, decode_image, image_size, resize_bilinear

Image = NDArray[np.uint8]

_SHARES = ((1.0, 1.0), (0.73, 1.0), (1.0, 0.61), (0.37, 0.5), (0.0, 0.9))  # of the crop size: height, width


def images_of(folder: str, flag: str) -> list[Path]:
    """Return the image files of a folder and its subfolders, sorted.

    Raises:
        UserError: it is no folder, cannot be read, or holds none; names the ``flag``.
    """
    if not Path(folder).is_dir():
        raise UserError(f"--{flag}={folder}: no such folder")
    found = find_images(folder).files
    if not found:
        raise UserError(f"--{flag}={folder}: no image; expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    return found


def spread(files: Sequence[Path], most: int) -> list[Path]:
    """Return at most so many of the files, at even distances."""
    count = min(most, len(files))
    return [files[i * len(files) // count] for i in range(count)]


def check_headers(files: Iterable[Path], config: ExportConfig) -> None:
    """Raise :class:`UserError` for an image that cannot be read or is of no known kind; its pixels are not decoded."""
    for path in files:
        image_size(read_bytes(path), str(path), Decoding.of(config))


def drawn_images(crop_size: int) -> Iterator[Image]:
    """Yield drawn images, uint8 ``[H, W, 3]``, of the crop size and of sizes that are no multiple of anything."""
    for index, shares in enumerate(_SHARES):
        height, width = (max(SMALLEST_SIDE, int(crop_size * share)) for share in shares)
        yield resize_bilinear(draw_sample(index)[0], (height, width))


def read_images(files: Sequence[Path], config: ExportConfig) -> Iterator[Image]:
    """Yield the images, uint8 ``[H, W, 3]``.

    Raises:
        UserError: one cannot be read or decoded; names it.
    """
    for path in files:
        yield decode_image(read_bytes(path), str(path), Decoding.of(config))


def as_taken(image: Image, config: ExportConfig) -> Image:
    """Return an image, uint8 ``[H, W, 3]``, in a size that the file takes.

    That is the padded square of ``--size``, else its own, unless that is larger than the crop size or too small.
    """
    if config.size:
        return view_of(image, config.size)[0]
    height, width = image.shape[:2]
    if max(height, width) > config.crop_size:
        height, width = longest_side_to(config.crop_size, height, width)
    height, width = max(SMALLEST_SIDE, height), max(SMALLEST_SIDE, width)
    return image if (height, width) == image.shape[:2] else resize_bilinear(image, (height, width))


def batches_of(images: Iterator[Image], config: ExportConfig) -> Iterator[Tensor]:
    """Yield each image, uint8, as a batch ``[N, H, W, 3]``: alone, then with its mirror image, or as often as must."""
    for index, image in enumerate(images):
        taken = as_taken(image, config)
        count = config.batch_size or 1 + index % 2
        yield torch.from_numpy(np.stack([taken[:, :: -1 if i % 2 else 1] for i in range(count)]))
