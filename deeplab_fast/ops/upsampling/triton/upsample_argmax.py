"""Kernel of evaluation's last step: low-resolution scores of several views to the class of each pixel.

For each target pixel it interpolates the views' scores, takes their softmax, interpolates that to the
target's size and adds it up: no probabilities are ever written. One launch serves a batch of images of
different sizes.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...constants import kept
from ...triton.launch import launch
from ...triton.tiles import PIXELS, choose
from ..upsample import cells
from .upsample import log_softmax, sampled_scores


@triton.jit
def upsample_argmax_kernel(
    logits, views, extents, targets, offsets, index, shares, out, n_views, images, classes,
    PLAIN: tl.constexpr, PIXELS: tl.constexpr, CLASSES: tl.constexpr,
):  # fmt: skip
    """``logits``: the views' [N, h, w, classes], one behind the other. ``views`` int32 [V, 5]: where one's logits
    begin, h, w, and where its rows' and columns' ``Cells`` begin in ``index`` and ``shares``. ``extents`` int32 [V, N,
    2] and ``targets`` int32 [N, 2]: height and width. ``out`` uint8, image ``n`` at ``offsets[n]``.

    PLAIN: one view whose targets are its own size, where the largest score has the largest probability.
    """
    n = tl.program_id(1)
    height, width = tl.load(targets + 2 * n), tl.load(targets + 2 * n + 1)
    o_pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    if tl.program_id(0) * PIXELS >= height * width:
        return
    m_pixel = o_pixel < height * width
    b_y, b_x = o_pixel // width, o_pixel % width
    o_class = tl.arange(0, CLASSES)
    m_class = o_class < classes
    b_sum = tl.zeros([PIXELS, CLASSES], tl.float32)
    for v in range(n_views):
        begin, h, w = tl.load(views + 5 * v), tl.load(views + 5 * v + 1), tl.load(views + 5 * v + 2)
        rows, columns = tl.load(views + 5 * v + 3), tl.load(views + 5 * v + 4)
        p_image = logits + tl.cast(begin, tl.int64) + tl.cast(n * h, tl.int64) * w * classes
        if PLAIN:
            b_sum = scores_at(
                p_image, index, shares, rows + b_y, columns + b_x, m_pixel, m_class, o_class, h, w, classes
            )
        else:
            p_extent = extents + 2 * (v * images + n)
            y_low, y_high, down = resized(b_y, tl.load(p_extent), height)
            x_low, x_high, right = resized(b_x, tl.load(p_extent + 1), width)
            for corner in range(4):  # a loop: unrolled it would not fit the registers
                b_row = rows + tl.where(corner // 2 == 1, y_high, y_low)
                b_column = columns + tl.where(corner % 2 == 1, x_high, x_low)
                b_share = tl.where(corner // 2 == 1, down, 1.0 - down) * tl.where(corner % 2 == 1, right, 1.0 - right)
                b_scores = scores_at(p_image, index, shares, b_row, b_column, m_pixel, m_class, o_class, h, w, classes)
                exponentials, _, total = log_softmax(b_scores, m_class)
                b_sum += exponentials * (b_share / total)[:, None]
    b_sum = tl.where(m_class[None, :], b_sum, float("-inf"))
    b_best = tl.argmax(b_sum, 1, tie_break_left=True)
    tl.store(out + tl.load(offsets + n) + o_pixel, b_best.to(tl.uint8), mask=m_pixel)


@triton.jit
def scores_at(p_image, index, shares, b_row, b_column, m_pixel, m_class, o_class, h, w, classes):
    """Scores of some pixels, fp32 [PIXELS, CLASSES]; ``b_row`` and ``b_column`` are places in the tables."""
    i_row, i_column = tl.load(index + b_row, mask=m_pixel, other=0), tl.load(index + b_column, mask=m_pixel, other=0)
    b_down = tl.load(shares + b_row, mask=m_pixel, other=0.0)
    b_right = tl.load(shares + b_column, mask=m_pixel, other=0.0)
    return sampled_scores(
        p_image, i_row, b_down, i_column, b_right, m_pixel, m_class, o_class, w * classes, classes, h, w
    )


@triton.jit
def resized(b_place, source, target):
    """Half-pixel centres: the two source pixels that a target pixel lies between, and the share of the second."""
    scale = tl.div_rn(source.to(tl.float32), target.to(tl.float32))
    position = tl.maximum((b_place.to(tl.float32) + 0.5) * scale - 0.5, 0.0)
    low = tl.minimum(position.to(tl.int32), source - 1)
    return low, tl.minimum(low + 1, source - 1), position - low.to(tl.float32)


@kept(64)
def _tables(
    shapes: tuple[tuple[int, int, int, int, int], ...], align_corners: bool, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Make ``views``, ``index`` and ``shares`` of the kernel for views of (elements, h, w, height, width)."""
    views, index, shares, begin, place = [], [], [], 0, 0
    for elements, h, w, height, width in shapes:
        views.append([begin, h, w, place, place + height])
        axes = [cells(source, size, align_corners, device) for source, size in ((h, height), (w, width))]
        index += [axis.cell for axis in axes]
        shares += [axis.shares for axis in axes]
        begin, place = begin + elements, place + height + width
    return torch.tensor(views, dtype=torch.int32, device=device), torch.cat(index), torch.cat(shares)


def upsample_argmax(
    logits: Sequence[Tensor], sizes: Sequence[int], extents: Tensor, targets: Sequence[int], align_corners: bool,
    plain: bool, out: Tensor,
) -> None:  # fmt: skip
    """Fill ``out``; ``logits`` of each view ``[N, C, h, w]``, the rest as of ``ops/upsampling/upsample_argmax.py``."""
    device, dtype = logits[0].device, logits[0].dtype
    images, classes = logits[0].shape[:2]
    flat = torch.cat([view.permute(0, 2, 3, 1).reshape(-1).to(dtype) for view in logits])
    shapes = tuple((v.numel(), *v.shape[2:], *sizes[2 * i : 2 * i + 2]) for i, v in enumerate(logits))
    views, index, shares = _tables(shapes, align_corners, device)
    # One copy from pinned memory, behind which the host need not wait.
    wanted = torch.tensor(targets, dtype=torch.int32).view(images, 2)
    pixels = wanted.long().prod(1)
    numbers = torch.cat([extents.reshape(-1), wanted.reshape(-1)])
    if device.type == "cuda":
        numbers = numbers.pin_memory()
    on_device = numbers.to(device, non_blocking=True).split([extents.numel(), 2 * images])
    sizes_there = on_device[1].view(images, 2).long().prod(1)
    tile = choose(PIXELS, classes)
    launch(
        upsample_argmax_kernel, (triton.cdiv(int(pixels.max()), tile.rows), images), tile,
        {"PLAIN": plain, "PIXELS": tile.rows, "CLASSES": tile.columns},
        logits=flat, views=views, extents=on_device[0], targets=on_device[1],
        offsets=sizes_there.cumsum(0) - sizes_there, index=index, shares=shares, out=out, n_views=len(logits),
        images=images, classes=classes,
    )  # fmt: skip
