"""Kernels that look at labels alone: which count, with what weight, and which are invalid."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...triton.launch import launch
from ...triton.tiles import FINISH, LABEL_PROGRAMS, LABELS, choose
from ..labels import NO_LABEL as NONE_BAD

NO_LABEL = tl.constexpr(NONE_BAD)


@triton.jit
def pixel_weights(labels, o_pixel, m_pixel, weights, classes, ignore_label):
    """Of some pixels: the class, -1 where none counts; the weight, 0 there; whether the label is bad, and which."""
    b_label = tl.load(labels + o_pixel, mask=m_pixel, other=0)
    if b_label.dtype == tl.int64:  # narrowed without making a class of what is none
        b_label = tl.minimum(tl.maximum(b_label, -(2**31)), 2**31 - 1)
    b_label = b_label.to(tl.int32)
    m_asked = m_pixel & (b_label != ignore_label)
    m_valid = m_asked & (b_label >= 0) & (b_label < classes)
    if weights is not None:  # noqa: SIM108
        b_weight = tl.load(weights + b_label, mask=m_valid, other=0.0)
    else:
        b_weight = m_valid.to(tl.float32)
    m_bad = m_asked & ~m_valid
    return tl.where(m_valid, b_label, -1), b_weight, m_bad.to(tl.int32), tl.where(m_bad, b_label, NO_LABEL)


@triton.jit
def label_weight_kernel(labels, weights, losses, bad, pixels, classes, ignore_label, PIXELS: tl.constexpr):
    """The weights and the bad labels of ``upsample_ce_kernel`` from the labels alone."""
    program, programs = tl.program_id(0), tl.num_programs(0)
    o_pixel = tl.arange(0, PIXELS)
    b_total = tl.zeros([PIXELS], tl.float32)
    b_bad = tl.zeros([PIXELS], tl.int32)
    b_worst = tl.full([PIXELS], NO_LABEL, tl.int32)
    for start in range(program * PIXELS, pixels, programs * PIXELS):
        m_pixel = start + o_pixel < pixels
        p_labels = labels + tl.cast(start, tl.int64)
        _, b_weight, b_one_bad, b_bad_label = pixel_weights(p_labels, o_pixel, m_pixel, weights, classes, ignore_label)
        b_total += b_weight
        b_bad += b_one_bad
        b_worst = tl.maximum(b_worst, b_bad_label)
    tl.store(losses + 2 * program, 0.0)
    tl.store(losses + 2 * program + 1, tl.sum(b_total))
    tl.store(bad + 2 * program, tl.sum(b_bad))
    tl.store(bad + 2 * program + 1, tl.max(b_worst))


@triton.jit
def finish_kernel(losses, bad, total, weight, bad_out, programs, ROWS: tl.constexpr):
    """Sums over the programs, in fp64 and in a fixed order: loss, weight, bad labels and the largest of them."""
    o_program = tl.arange(0, ROWS)
    b_loss = tl.zeros([ROWS], tl.float64)
    b_weight = tl.zeros([ROWS], tl.float64)
    b_bad = tl.zeros([ROWS], tl.int32)
    b_worst = tl.full([ROWS], NO_LABEL, tl.int32)
    for start in range(0, programs, ROWS):
        m_program = start + o_program < programs
        o_part = 2 * (start + o_program)
        b_loss += tl.load(losses + o_part, mask=m_program, other=0.0).to(tl.float64)
        b_weight += tl.load(losses + o_part + 1, mask=m_program, other=0.0).to(tl.float64)
        b_bad += tl.load(bad + o_part, mask=m_program, other=0)
        b_worst = tl.maximum(b_worst, tl.load(bad + o_part + 1, mask=m_program, other=NO_LABEL))
    tl.store(total, tl.sum(b_loss).to(tl.float32))
    tl.store(weight, tl.sum(b_weight).to(tl.float32))
    tl.store(bad_out, tl.sum(b_bad))
    tl.store(bad_out + 1, tl.max(b_worst))


def label_weight(labels: Tensor, classes: int, weights: Tensor | None, ignore_label: int) -> tuple[Tensor, Tensor]:
    """Sum the weights of the labels that count, fp32 0-dim; count the bad, and find the largest: int32 ``[2]``."""
    tile = choose(LABELS, labels.numel())
    programs = max(1, min(LABEL_PROGRAMS, triton.cdiv(labels.numel(), tile.rows)))
    losses = torch.empty(programs, 2, dtype=torch.float32, device=labels.device)
    bad = torch.empty(programs, 2, dtype=torch.int32, device=labels.device)
    launch(
        label_weight_kernel, (programs,), tile, {"PIXELS": tile.rows},
        labels=labels, weights=weights, losses=losses, bad=bad, pixels=labels.numel(), classes=classes,
        ignore_label=ignore_label,
    )  # fmt: skip
    _, weight, found = sum_programs(losses, bad)
    return weight, found


def sum_programs(losses: Tensor, bad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Add up all programs' results: loss and weight, fp32 0-dim; bad labels and the largest, int32 ``[2]``."""
    total, weight, found = losses.new_empty(()), losses.new_empty(()), bad.new_empty(2)
    programs = losses.shape[0]
    tile = choose(FINISH, programs)
    launch(
        finish_kernel, (1,), tile, {"ROWS": tile.rows},
        losses=losses, bad=bad, total=total, weight=weight, bad_out=found, programs=programs,
    )  # fmt: skip
    return total, weight, found
