"""The class of each pixel from the network's scores, as evaluation does it: probabilities summed over views."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import extension
from ..dispatch import traceable, use_kernels
from ..triton import DTYPES, INTERPRETED
from .labels import MOST_CLASSES
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
    """Compute the class probabilities of one padded image at its original size.

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
    """Yield the views' probabilities of each image at its own size, added up: fp32 ``[C, H, W]``."""
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
    """Specify :func:`upsample_argmax`: uint8 ``[H, W]`` for each image."""
    return [p.argmax(0).to(torch.uint8) for p in summed_probabilities(views, targets, align_corners)]


def upsample_argmax(
    views: Sequence[LogitsView], targets: Sequence[tuple[int, int]], align_corners: bool, fused: str = "auto"
) -> list[Tensor]:
    """Return the class of each pixel of each image: the largest of the views' summed probabilities.

    Args:
        views: at least one, all of the same images; at most 256 classes.
        targets: height and width of each image, where the classes are wanted.
        align_corners: how scores are upsampled to a view's square; its probabilities are then resized to
            the target with half-pixel centres, as OpenCV does.

    Returns:
        uint8 ``[H, W]`` for each image, on the logits' device. A tie goes to the lower class. The kernels, and the
        extension on a CPU, write nothing else and take images of different sizes at once.

    Raises:
        UserError: ``fused`` is ``on`` and the kernels cannot run; says why.
    """
    logits = views[0].logits
    native = extension.load()[0]
    plain = all(type(view.logits) is Tensor and view.logits.device.type == "cpu" for view in views)
    wanted = fused == "auto" or (fused == "on" and not INTERPRETED)  # as an interpreted kernel
    if wanted and native is not None and plain and supports(logits) is None:
        return _by_extension(native, views, targets, align_corners)
    extents = torch.stack([view.extents for view in views]).to(torch.int32).cpu()
    own_size = len(views) == 1 and all(
        target == (views[0].size,) * 2 == tuple(extent)
        for target, extent in zip(targets, extents[0].tolist(), strict=True)
    )
    reason = supports(logits)
    if reason is None and fused == "auto" and not own_size:
        reason = "targets of other sizes: on an H200 evaluation took 1.6 times as long with the kernel"
    if not use_kernels("upsample_argmax", fused, logits.device, reason):
        return upsample_argmax_reference(views, targets, align_corners)
    flat = _upsample_argmax(
        [view.logits for view in views],
        [side for view in views for side in (view.size, view.size)],
        extents,
        [side for target in targets for side in target],
        align_corners,
        own_size,
    )
    return _images(flat, targets)


def _by_extension(
    native: Any, views: Sequence[LogitsView], targets: Sequence[tuple[int, int]], align_corners: bool
) -> list[Tensor]:
    flat = torch.empty(sum(h * w for h, w in targets), dtype=torch.uint8)
    native.upsample_argmax(
        [view.logits.detach().float().permute(0, 2, 3, 1).contiguous().numpy() for view in views],
        [view.size for view in views],
        [view.extents.to(torch.int32).contiguous().numpy() for view in views],
        torch.tensor(targets, dtype=torch.int32).view(-1, 2).numpy(),
        align_corners,
        torch.get_num_threads(),
        flat.numpy(),
    )
    return _images(flat, targets)


def _images(flat: Tensor, targets: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Split the pixels into images ``[H, W]``."""
    pixels = [height * width for height, width in targets]
    return [part.view(target) for part, target in zip(flat.split(pixels), targets, strict=True)]


def _by_kernel(
    logits: Sequence[Tensor],
    sizes: Sequence[int],
    extents: Tensor,
    targets: Sequence[int],
    align_corners: bool,
    plain: bool,
) -> Tensor:
    """Return the classes of all images' pixels, one image behind the other: uint8 ``[pixels]``.

    ``sizes`` (height, width) of each view, ``targets`` of each image, ``extents`` int32 ``[V, N, 2]`` on the host.
    ``plain``: one view, whose images are wanted at its own size.
    """
    from .triton import upsample_argmax as kernels

    out = logits[0].new_empty(_pixels(targets), dtype=torch.uint8)
    kernels.upsample_argmax(logits, sizes, extents, targets, align_corners, plain, out)
    return out


def _empty(logits, sizes, extents, targets, align_corners, plain):  # type: ignore[no-untyped-def]
    return logits[0].new_empty(_pixels(targets), dtype=torch.uint8)


def _pixels(targets: Sequence[int]) -> int:
    return sum(h * w for h, w in zip(targets[::2], targets[1::2], strict=True))


_upsample_argmax = traceable("upsample_argmax", _by_kernel, _empty)


def supports(logits: Tensor) -> str | None:
    """Return why the kernels cannot take ``logits`` ``[N, C, h, w]``, or None."""
    if logits.dtype not in DTYPES:
        return f"logits are {logits.dtype}; expected fp32, fp16 or bf16"
    return None if logits.shape[1] <= MOST_CLASSES else f"{logits.shape[1]} classes; expected at most {MOST_CLASSES}"
