"""The recipe's evaluation: scales and flips summed as probabilities, one confusion matrix over the set.

Each image is resized so that its longest side is the crop size (bilinear, as OpenCV), normalised and
padded to a square at the bottom right; its softmax is cropped and resized to the original size, where
the truth is never touched. Scale ``s`` uses the square ``int((crop_size - 1) * s) + 1``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from .config import ImageConfig
from .data.pairs import check_values, decode_pair
from .data.sources import Source
from .data.threads import ordered_map
from .distributed import World
from .metrics import Scores
from .ops import LogitsView, confusion_matrix, normalise, resize_bilinear, upsample_argmax
from .runtime import autocast


@dataclass(frozen=True)
class Protocol:
    """How an image becomes a prediction."""

    crop_size: int
    scales: tuple[float, ...]
    flip: bool
    mean_rgb: tuple[float, ...]
    std_rgb: tuple[float, ...]
    precision: str = "fp32"

    @classmethod
    def of(
        cls, images: ImageConfig, precision: str, scales: tuple[float, ...] = (1.0,), flip: bool = False
    ) -> "Protocol":
        return cls(images.crop_size, scales, flip, images.mean_rgb, images.std_rgb, precision)

    @property
    def sizes(self) -> list[int]:
        """Side of the padded square at each scale."""
        return [int((self.crop_size - 1) * scale) + 1 for scale in self.scales]


class View(NamedTuple):
    """Images of one scale: ``images`` uint8 ``[N, S, S, 3]``, ``extents`` int32 ``[N, 4]``."""

    images: Tensor
    extents: Tensor


def longest_side_to(size: int, height: int, width: int) -> tuple[int, int]:
    """Height and width after scaling the longest side to ``size``, the other truncated, at least 1."""
    if height > width:
        return size, max(1, int(size * width / height))
    return max(1, int(size * height / width)), size


def view_of(image: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """One image in its padded square: uint8 ``[S, S, 3]`` and its extent, int32 ``[4]``."""
    height, width = longest_side_to(size, *image.shape[:2])
    square = np.zeros((size, size, 3), np.uint8)
    square[:height, :width] = resize_bilinear(image, (height, width))
    return square, np.array([0, height, 0, width], np.int32)


@torch.inference_mode()
def scores(model: torch.nn.Module, views: Sequence[View], protocol: Protocol, device: torch.device) -> list[LogitsView]:
    """The network's scores of a batch at every scale, and of its mirror image where the protocol asks for it."""
    found = []
    for view in views:
        x = normalise(view.images.to(device), view.extents, protocol.mean_rgb, protocol.std_rgb, torch.float32)
        size, extents = x.shape[-1], view.extents[:, [1, 3]]
        with autocast(protocol.precision, device):
            found.append(LogitsView(model(x), size, extents))
            if protocol.flip:
                found.append(LogitsView(model(x.flip(-1)).flip(-1), size, extents))
    return found


@torch.inference_mode()
def predictions(
    model: torch.nn.Module,
    views: Sequence[View],
    targets: Sequence[tuple[int, int]],
    protocol: Protocol,
    device: torch.device,
    fused: str = "auto",
) -> list[Tensor]:
    """The class of each pixel of each image at its original size: uint8 ``[H, W]``.

    ``views`` holds the batch at every scale; ``targets`` the original (height, width) of each image.
    """
    return upsample_argmax(scores(model, views, protocol, device), targets, aligns_corners(model), fused)


def aligns_corners(model: torch.nn.Module) -> bool:
    return bool(getattr(model, "align_corners", True))


def _load(
    source: Source, sizes: list[int], num_classes: int, ignore_label: int, index: int
) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Every scale of image ``index``, and its truth."""
    sample = source.read(index)
    image, label = decode_pair(sample)
    check_values(label, sample.label_where, num_classes, ignore_label)
    return [view_of(image, size) for size in sizes], label


def _collate(items: list) -> tuple[list[View], list[Tensor]]:
    views = [
        View(torch.from_numpy(np.stack([v[0] for v in scale])), torch.from_numpy(np.stack([v[1] for v in scale])))
        for scale in zip(*(item[0] for item in items), strict=True)
    ]
    return views, [torch.from_numpy(item[1]) for item in items]


def evaluate(
    model: torch.nn.Module,
    source: Source,
    protocol: Protocol,
    num_classes: int,
    ignore_label: int,
    device: torch.device,
    batch_size: int,
    num_workers: int = 0,
    world: World | None = None,
    fused: str = "auto",
) -> Scores:
    """Scores of ``model`` on every sample of ``source``, each counted once over all processes.

    The model's training mode is restored afterwards. The main process shows a progress bar.

    Raises:
        UserError: a sample cannot be used; names its file.
    """
    world = world or World()
    places = range(world.rank, len(source), world.size)
    load = partial(_load, source, protocol.sizes, num_classes, ignore_label)
    loaded = ordered_map(load, places, num_workers, batch_size)
    counts = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)
    was_training = model.training
    model.eval()
    try:
        hidden = None if world.is_main else True  # None: where stderr is not a terminal
        with tqdm(total=len(places), desc="evaluate", unit="image", leave=False, disable=hidden) as bar:
            while batch := list(islice(loaded, batch_size)):
                views, labels = _collate(batch)
                targets = [(label.shape[0], label.shape[1]) for label in labels]
                found = predictions(model, views, targets, protocol, device, fused)
                for label, classes in zip(labels, found, strict=True):
                    counts += confusion_matrix(label.to(device), classes, num_classes, ignore_label)
                    bar.update()
    finally:
        model.train(was_training)
    return Scores(world.sum(counts).cpu().numpy())
