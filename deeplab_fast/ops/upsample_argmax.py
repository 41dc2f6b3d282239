"""From the network's scores to the class of each pixel, as evaluation does it: probabilities summed over views."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .choice import use_kernels
from .triton import DTYPES
from .upsample import upsample


class LogitsView(NamedTuple):
    """Scores of a batch seen at one scale, flipped back where it was flipped.

    ``logits`` ``[N, C, h, w]`` of padded squares of side ``size``, whose top left ``extents`` (integers
    ``[N, 2]``: height, width) are image.
    """

    logits: Tensor
    size: int
    extents: Tensor


def upsample_softmax(
    logits: Tensor, size: int, extent: tuple[int, int], target: tuple[int, int], align_corners: bool
) -> Tensor:
    """Class probabilities of one padded image at its original size.

    Upsamples ``logits`` ``[C, h, w]`` to the padded square ``size``, takes the softmax over
    classes, keeps the top-left ``extent`` (height, width) that is image rather than padding, and
    resizes it bilinearly (half-pixel centres, as OpenCV) to ``target`` (height, width).
    Returns fp32 ``[C, *target]``.
    """
    full = upsample(logits.float()[None], (size, size), align_corners)
    probabilities = full.softmax(dim=1)[..., : extent[0], : extent[1]]
    return F.interpolate(probabilities, target, mode="bilinear", align_corners=False)[0]


def summed_probabilities(
    views: Sequence[LogitsView], targets: Sequence[tuple[int, int]], align_corners: bool
) -> Iterator[Tensor]:
    """The views' probabilities of each image at its own size, added up: fp32 ``[C, H, W]``, one image at a time."""
    for i, target in enumerate(targets):
        total = None
        for view in views:
            height, width = view.extents[i].tolist()
            p = upsample_softmax(view.logits[i], view.size, (height, width), target, align_corners)
            total = p if total is None else total.add_(p)
        assert total is not None
        yield total


def upsample_argmax_reference(
    views: Sequence[LogitsView], targets: Sequence[tuple[int, int]], align_corners: bool
) -> list[Tensor]:
    """The specification of :func:`upsample_argmax`."""
    return [p.argmax(0).to(torch.uint8) for p in summed_probabilities(views, targets, align_corners)]


def upsample_argmax(
    views: Sequence[LogitsView], targets: Sequence[tuple[int, int]], align_corners: bool, fused: str = "auto"
) -> list[Tensor]:
    """The class of each pixel of each image: the largest of the views' summed probabilities.

    Args:
        views: at least one, all of the same images; at most 256 classes.
        targets: height and width of each image, where the classes are wanted.
        align_corners: how scores are upsampled to a view's square; its probabilities are then resized to
            the target with half-pixel centres, as OpenCV does.

    Returns:
        uint8 ``[H, W]`` for each image, on the logits' device. A tie goes to the lower class. The kernels
        write nothing else and take images of different sizes in one launch.

    Raises:
        UserError: ``fused`` is ``on`` and the kernels cannot run; says why.
    """
    logits = views[0].logits
    if not use_kernels("upsample_argmax", fused, logits.device, supports(logits)):
        return upsample_argmax_reference(views, targets, align_corners)
    from .triton import upsample_argmax as kernels

    extents = torch.stack([view.extents for view in views]).to(torch.int32).cpu()
    own_size = len(views) == 1 and all(
        target == (views[0].size,) * 2 == tuple(extent)
        for target, extent in zip(targets, extents[0].tolist(), strict=True)
    )
    scores, sizes = [view.logits for view in views], [(view.size, view.size) for view in views]
    return kernels.upsample_argmax(scores, sizes, extents, targets, align_corners, own_size)


def supports(logits: Tensor) -> str | None:
    """Why the kernels cannot take these, or None."""
    if logits.dtype not in DTYPES:
        return f"logits are {logits.dtype}; expected fp32, fp16 or bf16"
    return f"{logits.shape[1]} classes; expected at most 256" if logits.shape[1] > 256 else None
