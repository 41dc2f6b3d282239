"""The way from an image to the classes of its pixels: scales and flips, summed as probabilities.

Each image is resized so that its longest side is the crop size (bilinear, as OpenCV), normalised and padded to a square
at the bottom right; its softmax is cropped and resized to the original size. Scale ``s`` uses the square
``int((crop_size - 1) * s) + 1``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..config import ImageConfig, ProtocolConfig
from ..ops import DEFAULT_DECODING, Decoding, LogitsView, normalise, resize_bilinear, upsample_argmax
from ..runtime import autocast


@dataclass(frozen=True)
class Protocol:
    """The way from an image to its prediction: sizes, flip, normalisation, precision, decoding."""

    crop_size: int
    scales: tuple[float, ...]
    flip: bool
    mean_rgb: tuple[float, ...]
    std_rgb: tuple[float, ...]
    precision: str = "fp32"
    decoding: Decoding = DEFAULT_DECODING
    window: int = 0  # side of the windows in pixels; 0: whole images
    overlap: float = 0.5

    @classmethod
    def of(
        cls, images: ImageConfig, precision: str, scales: tuple[float, ...] = (1.0,), flip: bool = False
    ) -> "Protocol":
        return cls(images.crop_size, scales, flip, images.mean_rgb, images.std_rgb, precision, Decoding.of(images))

    def in_windows(self, flags: ProtocolConfig) -> "Protocol":
        """Return the protocol with the windows that ``--window`` and ``--overlap`` ask for."""
        return replace(self, window=flags.window, overlap=flags.overlap)

    def is_windowed(self, size: tuple[int, int]) -> bool:
        """Tell whether an image of this (height, width) is larger than a window."""
        return 0 < self.window < max(size)

    @property
    def sizes(self) -> list[int]:
        """Side of the padded square at each scale."""
        return [int((self.crop_size - 1) * scale) + 1 for scale in self.scales]


class View(NamedTuple):
    """Images of one scale, on the host: ``images`` uint8 ``[N, S, S, 3]``, ``extents`` int32 ``[N, 4]``."""

    images: Tensor
    extents: Tensor


def longest_side_to(size: int, height: int, width: int) -> tuple[int, int]:
    """Return height and width after scaling the longest side to ``size``, the other truncated, at least 1."""
    if height > width:
        return size, max(1, int(size * width / height))
    return max(1, int(size * height / width)), size


def view_of(image: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Resize one image into its padded square: uint8 ``[S, S, 3]`` and its extent, int32 ``[4]``."""
    height, width = longest_side_to(size, *image.shape[:2])
    square = np.zeros((size, size, 3), np.uint8)
    square[:height, :width] = resize_bilinear(image, (height, width))
    return square, np.array([0, height, 0, width], np.int32)


@torch.inference_mode()
def scores(
    model: torch.nn.Module,
    views: Sequence[View],
    protocol: Protocol,
    device: torch.device,
    images_at_once: int | None = None,
) -> list[LogitsView]:
    """Return the network's scores of a batch at every scale, and of its mirror image where the protocol asks for it.

    ``images_at_once``: most images of the crop size that go through the network together; of a larger scale fewer, so
    that no pass has more pixels. None for no limit.
    """
    found = []
    for view in views:
        n, size = view.images.shape[:2]
        most = n if images_at_once is None else max(1, images_at_once * protocol.crop_size**2 // size**2)
        parts = [
            _network_scores(model, view.images[i : i + most], view.extents[i : i + most], protocol, device)
            for i in range(0, n, most)
        ]
        for logits in zip(*parts, strict=True):
            found.append(LogitsView(torch.cat(logits), size, view.extents[:, [1, 3]]))
    return found


def _network_scores(
    model: torch.nn.Module, images: Tensor, extents: Tensor, protocol: Protocol, device: torch.device
) -> list[Tensor]:
    """Return the scores of one pass, and those of its mirror image."""
    there = (images.to(device, non_blocking=True), extents.to(device, non_blocking=True))
    x = normalise(*there, protocol.mean_rgb, protocol.std_rgb, torch.float32)
    with autocast(protocol.precision, device):
        return [model(x), *([model(x.flip(-1)).flip(-1)] if protocol.flip else [])]


@torch.inference_mode()
def predictions(
    model: torch.nn.Module,
    views: Sequence[View],
    targets: Sequence[tuple[int, int]],
    protocol: Protocol,
    device: torch.device,
    fused: str = "auto",
    images_at_once: int | None = None,
) -> list[Tensor]:
    """Return the class of each pixel of each image at its original size: uint8 ``[H, W]``. Does not wait for a GPU.

    ``views`` holds the batch at every scale; ``targets`` the original (height, width) of each image.
    """
    found = scores(model, views, protocol, device, images_at_once)
    return upsample_argmax(found, targets, aligns_corners(model), fused)


def aligns_corners(model: torch.nn.Module) -> bool:
    return bool(getattr(model, "align_corners", True))


def segment_images(
    model: torch.nn.Module,
    images: Sequence[np.ndarray],
    protocol: Protocol,
    device: torch.device,
    fused: str = "auto",
) -> list[NDArray[np.uint8]]:
    """Return the classes, uint8 ``[H, W]``, of images, uint8 ``[H, W, 3]``, by the evaluation's protocol."""
    targets = [(image.shape[0], image.shape[1]) for image in images]
    found = predictions(model, views_of(images, protocol), targets, protocol, device, fused)
    return [classes.cpu().numpy() for classes in found]


def views_of(images: Sequence[np.ndarray], protocol: Protocol) -> list[View]:
    """Return images, uint8 ``[H, W, 3]`` of any sizes, as one batch at every scale."""
    views = []
    for size in protocol.sizes:
        squares, extents = zip(*(view_of(image, size) for image in images), strict=True)
        views.append(View(torch.from_numpy(np.stack(squares)), torch.from_numpy(np.stack(extents))))
    return views
