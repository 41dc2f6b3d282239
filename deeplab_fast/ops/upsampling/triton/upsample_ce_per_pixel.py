"""Kernel of the loss of every output pixel, from low-resolution logits."""

import triton
import triton.language as tl
from torch import Tensor

from ...triton.launch import launch
from ...triton.tiles import PIXELS, choose
from ..upsample import cells
from .label_weight import pixel_weights
from .upsample import log_softmax, sampled_scores, strides


@triton.jit
def per_pixel_kernel(
    logits, labels, row_index, row_shares, column_index, column_shares, losses,
    stride_n, stride_c, stride_h, stride_w, h, w, height, width, classes, ignore_label,
    PIXELS: tl.constexpr, CLASSES: tl.constexpr,
):  # fmt: skip
    """``losses`` fp32 [N, height, width], 0 where a label does not count."""
    row = tl.program_id(0)
    n, y = row // height, row % height
    o_pixel = tl.program_id(1) * PIXELS + tl.arange(0, PIXELS)
    m_pixel = o_pixel < width
    o_class = tl.arange(0, CLASSES)
    m_class = o_class < classes
    p_image = logits + tl.cast(n, tl.int64) * stride_n
    i_row = tl.load(row_index + y) + tl.zeros([PIXELS], tl.int32)
    b_down = tl.load(row_shares + y) + tl.zeros([PIXELS], tl.float32)
    i_column = tl.load(column_index + o_pixel, mask=m_pixel, other=0)
    b_right = tl.load(column_shares + o_pixel, mask=m_pixel, other=0.0)
    b_scores = sampled_scores(
        p_image, i_row, b_down, i_column, b_right, m_pixel, m_class, o_class * stride_c, stride_h, stride_w, h, w
    )
    p_labels = labels + tl.cast(row, tl.int64) * width
    b_class, _, _, _ = pixel_weights(p_labels, o_pixel, m_pixel, None, classes, ignore_label)
    _, log_sum, _ = log_softmax(b_scores, m_class)
    true = tl.sum(tl.where(o_class[None, :] == b_class[:, None], b_scores, 0.0), 1)
    p_loss = losses + tl.cast(row, tl.int64) * width + o_pixel
    tl.store(p_loss, tl.where(b_class >= 0, log_sum - true, 0.0), mask=m_pixel)


def upsample_ce_per_pixel(
    logits: Tensor, labels: Tensor, ignore_label: int, align_corners: bool, losses: Tensor
) -> None:
    """Fill ``losses`` fp32 ``[N, H, W]``, contiguous; ``logits`` ``[N, C, h, w]``, ``labels`` as above."""
    _, classes, h, w = logits.shape
    n, height, width = labels.shape
    rows = cells(h, height, align_corners, logits.device)
    columns = cells(w, width, align_corners, logits.device)
    tile = choose(PIXELS, classes)
    launch(
        per_pixel_kernel, (n * height, triton.cdiv(width, tile.rows)), tile,
        {"PIXELS": tile.rows, "CLASSES": tile.columns},
        logits=logits, labels=labels, row_index=rows.cell, row_shares=rows.shares,
        column_index=columns.cell, column_shares=columns.shares, losses=losses, **strides(logits),
        h=h, w=w, height=height, width=width, classes=classes, ignore_label=ignore_label,
    )  # fmt: skip
