"""Kernels of upsampling + softmax cross-entropy, loss and gradient in one sweep of the output pixels.

A program takes one image, one row cell and a run of column cells (see ``ops/upsampling/upsample.py``: a cell is the
interval between neighbouring low-resolution pixels; at output stride 16 it is 16 x 16 output pixels). The
four corners' scores are read once a cell; the pixels' gradients are added up in registers, for its upper
and lower edge, and reach the corners at the end of the cell: nothing of full resolution is written and
nothing is added atomically. Each row cell writes its parts of two low-resolution rows to a workspace;
the gather adds them in a fixed order.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...triton.launch import launch
from ...triton.tiles import CELL, CELL_SMOOTH, ELEMENTS, GATHER, STRIP_PROGRAMS, choose
from ..upsample import cells
from .label_weight import NO_LABEL, pixel_weights, sum_programs
from .upsample import class_scores, strides

LOG_2 = tl.constexpr(math.log(2))
LOG2_E = tl.constexpr(1 / math.log(2))


@triton.jit(do_not_specialize_on_alignment=["labels", "losses", "bad"])
def upsample_ce_kernel(
    logits, labels, weights, row_starts, row_shares, column_starts, column_shares, workspace, losses, bad,
    stride_n, stride_c, stride_h, stride_w, h, w, height, width, classes, ignore_label, smoothing,
    run, runs, entries,
    SMOOTH: tl.constexpr, CLASSES: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """``losses`` [programs, 2]: each program's loss and weight. ``bad`` [programs, 2]: labels that are no class, and
    the largest of them. ``workspace`` [N, h + 1, 2, entries, classes] where the gradient is wanted: the run
    ``q`` of column cells writes its share of column ``j`` to entry ``j + q``.

    A tile is PIXELS neighbours of one output row, which share their corners, times all classes. Pixels lie
    along the lanes of one warp, so that the softmax needs almost no exchange between lanes. Within a cell
    scores are linear in the row: one multiplication and addition for each score. They are in units of
    log(2), whose powers are one instruction.
    """
    program = tl.program_id(0)
    q = program % runs
    i_cell = program // runs % (h + 1)
    n = program // runs // (h + 1)
    o_class = tl.arange(0, CLASSES)
    m_class = o_class < classes
    o_pixel = tl.arange(0, PIXELS)
    p_labels = labels + tl.cast(n, tl.int64) * height * width
    p_top = logits + tl.cast(n, tl.int64) * stride_n + o_class * stride_c
    p_bottom = p_top + tl.minimum(i_cell, h - 1) * stride_h
    p_top += tl.maximum(i_cell - 1, 0) * stride_h
    first, last = tl.load(row_starts + i_cell), tl.load(row_starts + i_cell + 1)
    if SMOOTH:
        if weights is not None:
            b_spread = tl.load(weights + o_class, mask=m_class, other=0.0) * (smoothing / classes)
        else:
            b_spread = tl.where(m_class, smoothing / classes, 0.0)
        spread_sum = tl.sum(b_spread)
    b_loss = tl.zeros([PIXELS], tl.float32)
    b_total = tl.zeros([PIXELS], tl.float32)
    b_bad = tl.zeros([PIXELS], tl.int32)
    b_worst = tl.full([PIXELS], NO_LABEL, tl.int32)
    if workspace is not None:
        p_upper = workspace + tl.cast((n * (h + 1) + i_cell) * 2 * entries, tl.int64) * classes + o_class
        p_lower = p_upper + entries * classes
    left_cell = q * run
    right_cell = tl.minimum(left_cell + run, w + 1)
    if workspace is not None:  # columns left_cell - 1 to right_cell - 1
        for j in range(tl.maximum(left_cell - 1, 0), tl.minimum(right_cell, w)):
            tl.store(p_upper + (j + q) * classes, tl.zeros([CLASSES], tl.float32), mask=m_class)
            tl.store(p_lower + (j + q) * classes, tl.zeros([CLASSES], tl.float32), mask=m_class)
        tl.debug_barrier()
    for k in range(left_cell, right_cell):
        end = tl.load(column_starts + k + 1)
        for x in range(tl.load(column_starts + k), end, PIXELS):
            m_column = x + o_pixel < end
            b_right = tl.load(column_shares + x + o_pixel, mask=m_column, other=0.0)[None, :]
            o_left = tl.maximum(k - 1, 0) * stride_w
            o_right = tl.minimum(k, w - 1) * stride_w
            b_top = between(p_top + o_left, p_top + o_right, m_class, b_right) * LOG2_E
            b_rise = between(p_bottom + o_left, p_bottom + o_right, m_class, b_right) * LOG2_E - b_top
            b_top = tl.where(m_class[:, None], b_top, float("-inf"))
            g_all = tl.zeros([CLASSES, PIXELS], tl.float32)
            g_bottom = tl.zeros([CLASSES, PIXELS], tl.float32)
            for y in range(first, last):
                down = tl.load(row_shares + y)
                b_class, b_weight, b_one_bad, b_bad_label = pixel_weights(
                    p_labels + tl.cast(y, tl.int64) * width, x + o_pixel, m_column, weights, classes, ignore_label
                )
                b_scores = b_top + b_rise * down
                largest = tl.max(b_scores, 0)
                b_p = tl.exp2(b_scores - largest[None, :])
                total = tl.sum(b_p, 0)
                log_sum = largest + tl.log2(total)
                m_true = o_class[:, None] == b_class[None, :]
                m_valid = b_class >= 0
                b_hard = b_weight
                if SMOOTH:
                    b_hard = b_weight * (1.0 - smoothing)
                    b_log_p = tl.where(m_class[:, None], b_scores - log_sum[None, :], 0.0)
                    b_loss -= tl.where(m_valid, tl.sum(b_spread[:, None] * b_log_p, 0), 0.0)
                true = tl.sum(tl.where(m_true, b_scores, 0.0), 0)
                b_loss += tl.where(m_valid, b_hard * (log_sum - true), 0.0)
                b_total += b_weight
                b_bad += b_one_bad
                b_worst = tl.maximum(b_worst, b_bad_label)
                if workspace is not None:
                    if SMOOTH:
                        b_factor = (b_hard + tl.where(m_valid, spread_sum, 0.0)) / total
                        b_slope = b_p * b_factor[None, :] - tl.where(m_true, b_hard[None, :], 0.0)
                        b_slope -= tl.where(m_valid[None, :], b_spread[:, None], 0.0)
                    else:
                        b_slope = b_p * (b_hard / total)[None, :] - tl.where(m_true, b_hard[None, :], 0.0)
                    g_all += b_slope
                    g_bottom += b_slope * down
            if workspace is not None:
                g_top = g_all - g_bottom
                add_to(p_upper + (k - 1 + q) * classes, tl.sum(g_top * (1.0 - b_right), 1), m_class & (k > 0))
                add_to(p_lower + (k - 1 + q) * classes, tl.sum(g_bottom * (1.0 - b_right), 1), m_class & (k > 0))
                add_to(p_upper + (k + q) * classes, tl.sum(g_top * b_right, 1), m_class & (k < w))
                add_to(p_lower + (k + q) * classes, tl.sum(g_bottom * b_right, 1), m_class & (k < w))
                tl.debug_barrier()  # the next cell adds to what this one wrote
    tl.store(losses + 2 * program, tl.sum(b_loss) * LOG_2)
    tl.store(losses + 2 * program + 1, tl.sum(b_total))
    tl.store(bad + 2 * program, tl.sum(b_bad))
    tl.store(bad + 2 * program + 1, tl.max(b_worst))


@triton.jit
def add_to(p_sums, b_values, m_class):
    """Sums in memory that this program alone adds to: registers are dearer."""
    tl.store(p_sums, tl.load(p_sums, mask=m_class, other=0.0) + b_values, mask=m_class)


@triton.jit
def between(p_left, p_right, m_class, b_right):
    """Scores between two low-resolution pixels, fp32 [CLASSES, PIXELS], at the shares ``b_right`` [1, PIXELS]."""
    left = class_scores(p_left, m_class)[:, None]
    return left + (class_scores(p_right, m_class)[:, None] - left) * b_right


@triton.jit
def gather_kernel(
    workspace, gradient, stride_n, stride_c, stride_h, stride_w, h, w, classes, run, entries,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """``workspace`` -> ``gradient`` [N, classes, h, w]: row cells above and below, column runs left and right."""
    row = tl.program_id(0)
    n, i = row // h, row % h
    o_j = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    o_class = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    m_j = o_j < w
    m_tile = m_j[:, None] & (o_class < classes)[None, :]
    q_own, q_next = o_j // run, (o_j + 1) // run
    m_two = m_tile & (q_own != q_next)[:, None]
    o_own = (o_j + q_own)[:, None] * classes + o_class[None, :]
    o_next = (o_j + q_next)[:, None] * classes + o_class[None, :]
    image = tl.cast(n * (h + 1) * 2, tl.int64) * entries * classes
    p_above = workspace + image + (2 * i + 1) * entries * classes  # lower edge of row cell i
    p_below = workspace + image + (2 * i + 2) * entries * classes  # upper edge of row cell i + 1
    b_sum = tl.load(p_above + o_own, mask=m_tile, other=0.0) + tl.load(p_above + o_next, mask=m_two, other=0.0)
    b_sum += tl.load(p_below + o_own, mask=m_tile, other=0.0) + tl.load(p_below + o_next, mask=m_two, other=0.0)
    p_gradient = gradient + tl.cast(n, tl.int64) * stride_n + i * stride_h
    p_gradient += o_j[:, None] * stride_w + o_class[None, :] * stride_c
    tl.store(p_gradient, b_sum.to(gradient.dtype.element_ty), mask=m_tile)


@triton.jit
def scale_kernel(gradient, factor, scaled, elements, ELEMENTS: tl.constexpr):
    """``scaled = gradient * factor``, the factor fp32 on the device; torch would round it to the gradient's type."""
    o_element = tl.program_id(0) * ELEMENTS + tl.arange(0, ELEMENTS)
    m_element = o_element < elements
    b_gradient = tl.load(gradient + o_element, mask=m_element, other=0.0).to(tl.float32)
    tl.store(scaled + o_element, (b_gradient * tl.load(factor)).to(scaled.dtype.element_ty), mask=m_element)


def column_runs(images: int, h: int, w: int) -> int:
    """Return how many column cells a program takes: few enough for the GPU to be full."""
    runs = max(1, min(w + 1, triton.cdiv(STRIP_PROGRAMS, images * (h + 1))))
    return triton.cdiv(w + 1, runs)


def images_at_once(n: int, h: int, w: int, classes: int, run: int, most: int) -> int:
    """Return how many images have a workspace of at most ``most`` bytes, at least one."""
    each = 4 * (h + 1) * 2 * (w + triton.cdiv(w + 1, run) - 1) * classes
    return max(1, min(n, most // each))


def upsample_ce(
    logits: Tensor, labels: Tensor, weights: Tensor | None, ignore_label: int, smoothing: float,
    align_corners: bool, gradient: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Compute loss and weight, fp32 0-dim; count invalid labels, and find the largest of them: int32 ``[2]``.

    ``logits`` ``[N, C, h, w]``, any strides; ``labels`` ``[N, H, W]``, contiguous; fills ``gradient``, as the
    logits. Works through groups of images, so that the workspace is no larger than the inputs are.
    """
    n, classes, h, w = logits.shape
    device = logits.device
    rows = cells(h, labels.shape[1], align_corners, device)
    columns = cells(w, labels.shape[2], align_corners, device)
    tile = choose(CELL if smoothing == 0.0 else CELL_SMOOTH, classes)
    inputs = logits.numel() * logits.element_size() + labels.numel() * labels.element_size()
    group, run = n, column_runs(n, h, w)
    if gradient is not None:
        group = images_at_once(n, h, w, classes, run, inputs)
        run = column_runs(group, h, w)  # fewer images, more programs for each, a little more workspace
        group = images_at_once(n, h, w, classes, run, inputs)
    runs = triton.cdiv(w + 1, run)
    shape = (h + 1, 2, w + runs - 1, classes)
    workspace = None if gradient is None else torch.empty(group, *shape, dtype=torch.float32, device=device)
    losses = torch.empty(n, (h + 1) * runs, 2, dtype=torch.float32, device=device)
    bad = torch.empty_like(losses, dtype=torch.int32)
    sizes = {"h": h, "w": w, "classes": classes, "run": run, "entries": w + runs - 1}
    for first in range(0, n, group):
        part = slice(first, first + group)
        images = logits[part].shape[0]
        launch(
            upsample_ce_kernel, (images * (h + 1) * runs,), tile,
            {"SMOOTH": smoothing != 0.0, "CLASSES": tile.rows, "PIXELS": tile.columns},
            logits=logits[part], labels=labels[part], weights=weights, row_starts=rows.starts, row_shares=rows.shares,
            column_starts=columns.starts, column_shares=columns.shares, workspace=workspace, losses=losses[part],
            bad=bad[part], **strides(logits), **sizes, runs=runs, height=labels.shape[1], width=labels.shape[2],
            ignore_label=ignore_label, smoothing=float(smoothing),
        )  # fmt: skip
        if gradient is not None:
            over = choose(GATHER, classes)
            launch(
                gather_kernel, (images * h, triton.cdiv(w, over.rows), triton.cdiv(classes, over.columns)), over,
                {"ROWS": over.rows, "COLUMNS": over.columns},
                workspace=workspace, gradient=gradient[part], **strides(gradient), **sizes,
            )  # fmt: skip
    return sum_programs(losses.view(-1, 2), bad.view(-1, 2))


def scale(gradient: Tensor, factor: Tensor, scaled: Tensor) -> None:
    """Fill ``scaled`` with ``gradient * factor``; both dense and stored alike, ``factor`` fp32 0-dim."""
    tile = choose(ELEMENTS, gradient.numel())
    launch(
        scale_kernel, (triton.cdiv(gradient.numel(), tile.rows),), tile, {"ELEMENTS": tile.rows},
        gradient=gradient, factor=factor, scaled=scaled, elements=gradient.numel(),
    )  # fmt: skip
