"""What a network says of one image, kept small: scores of low resolution, from which probabilities are made."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..ops import LogitsView, summed_probabilities, upsample_argmax
from .protocol import Protocol, aligns_corners, scores, views_of


@dataclass(frozen=True, eq=False)
class ScoredImage:
    """The scores of an image at every scale, on the host: ``views`` of a batch of one; ``size`` is (height, width)."""

    views: list[LogitsView]
    size: tuple[int, int]
    align_corners: bool

    @torch.inference_mode()
    def probabilities(self) -> NDArray[np.float32]:
        """Return the mean of the views' probabilities at the image's own size, computed anew: fp32 ``[C, H, W]``."""
        total = next(summed_probabilities(self.views, [self.size], self.align_corners))
        return total.div_(len(self.views)).numpy()


@torch.inference_mode()
def score_images(
    model: torch.nn.Module,
    images: Sequence[np.ndarray],
    protocol: Protocol,
    device: torch.device,
    fused: str = "auto",
) -> list[tuple[NDArray[np.uint8], ScoredImage]]:
    """Return the classes, uint8 ``[H, W]``, and the scores of images, uint8 ``[H, W, 3]``, that form one batch."""
    targets = [(image.shape[0], image.shape[1]) for image in images]
    found = scores(model, views_of(images, protocol), protocol, device)
    align_corners = aligns_corners(model)
    classes = upsample_argmax(found, targets, align_corners, fused)
    return [
        (classes[i].cpu().numpy(), ScoredImage([_one(view, i) for view in found], target, align_corners))
        for i, target in enumerate(targets)
    ]


def _one(view: LogitsView, index: int) -> LogitsView:
    """Return one image of a batch, on the host, in memory of its own."""
    one = slice(index, index + 1)
    return LogitsView(view.logits[one].to("cpu", copy=True), view.size, view.extents[one].to("cpu", copy=True))
