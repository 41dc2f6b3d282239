"""A network's scores of one image, kept small: at their low resolution, from which probabilities are made."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..ops import LogitsView, summed_probabilities, upsample_argmax
from .protocol import Protocol, aligns_corners, scores, views_of
from .windows import Row, blended, rows_of


@dataclass(frozen=True, eq=False)
class ScoredImage:
    """The scores of an image at every scale, on the host; ``size`` is its (height, width).

    ``views`` of a batch of one where it went through the network whole, else ``rows`` of windows.
    """

    views: list[LogitsView]
    size: tuple[int, int]
    align_corners: bool
    rows: tuple[Row, ...] = ()

    @torch.inference_mode()
    def probabilities(self, of_class: int | None = None) -> NDArray[np.float32]:
        """Return the mean of the views' probabilities at the image's own size, computed anew: fp32 ``[C, H, W]``.

        ``of_class``: of that class alone, ``[1, H, W]``.
        """
        classes = slice(None) if of_class is None else slice(of_class, of_class + 1)
        out: NDArray[np.float32] | None = None
        done = 0
        for band in self._bands():
            p = band[classes].div_(len(self.rows[0].views if self.rows else self.views)).numpy()
            if out is None:
                out = np.empty((p.shape[0], *self.size), np.float32)
            out[:, done : done + p.shape[1]] = p
            done += p.shape[1]
        assert out is not None
        return out

    def _bands(self) -> Iterator[Tensor]:
        if self.rows:
            return blended(self.rows, self.size, self.align_corners)
        return summed_probabilities(self.views, [self.size], self.align_corners)


@torch.inference_mode()
def score_images(
    model: torch.nn.Module,
    images: Sequence[np.ndarray],
    protocol: Protocol,
    device: torch.device,
    fused: str = "auto",
    windows_at_once: int = 1,
    keep_windows: bool = True,
) -> list[tuple[NDArray[np.uint8], ScoredImage]]:
    """Return the classes, uint8 ``[H, W]``, and the scores of images, uint8 ``[H, W, 3]``, that form one batch.

    Those that are larger than the protocol's windows go through the network alone, ``windows_at_once``; without
    ``keep_windows`` their scores are not kept, and there are no probabilities of them.
    """
    whole = [image for image in images if not protocol.is_windowed(image.shape[:2])]
    together = iter(_score_whole(model, whole, protocol, device, fused) if whole else [])
    return [
        _score_windows(model, image, protocol, device, windows_at_once, keep_windows)
        if protocol.is_windowed(image.shape[:2])
        else next(together)
        for image in images
    ]


def _score_whole(
    model: torch.nn.Module, images: Sequence[np.ndarray], protocol: Protocol, device: torch.device, fused: str
) -> list[tuple[NDArray[np.uint8], ScoredImage]]:
    targets = [(image.shape[0], image.shape[1]) for image in images]
    found = scores(model, views_of(images, protocol), protocol, device)
    align_corners = aligns_corners(model)
    classes = upsample_argmax(found, targets, align_corners, fused)
    return [
        (classes[i].cpu().numpy(), ScoredImage([_on_host(view, i) for view in found], target, align_corners))
        for i, target in enumerate(targets)
    ]


def _score_windows(
    model: torch.nn.Module,
    image: np.ndarray,
    protocol: Protocol,
    device: torch.device,
    at_once: int,
    keeps: bool,
) -> tuple[NDArray[np.uint8], ScoredImage]:
    size = (image.shape[0], image.shape[1])
    kept: list[Row] = []

    def rows() -> Iterator[Row]:
        for row in rows_of(model, image, protocol, device, at_once):
            if keeps:
                kept.append(row._replace(views=[_on_host(view) for view in row.views]))
            yield row

    align_corners = aligns_corners(model)
    classes = np.empty(size, np.uint8)
    done = 0
    for band in blended(rows(), size, align_corners):
        classes[done : done + band.shape[1]] = band.argmax(0).to(torch.uint8).cpu().numpy()
        done += band.shape[1]
    return classes, ScoredImage([], size, align_corners, tuple(kept))


def _on_host(view: LogitsView, index: int | None = None) -> LogitsView:
    """Return a batch, or one image of it, on the host, in memory of its own."""
    part = slice(None) if index is None else slice(index, index + 1)
    return LogitsView(view.logits[part].to("cpu", copy=True), view.size, view.extents[part].to("cpu", copy=True))
