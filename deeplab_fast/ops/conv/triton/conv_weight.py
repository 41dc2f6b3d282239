"""Kernel of the gradient of a convolution's weights: for each tap a matrix product over the pixels it reads.

A tap that is moved by (down, across) reads a map only from a rectangle of output pixels, and the sum runs over
that: ``dw[tap] = sum over the rectangle of dy[p]^T x[p + move]``. Where the last step of a row passes the rectangle's
edge, one of the two lies outside its map and is zero.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...triton import device_info
from ...triton.launch import launch
from ...triton.tiles import ConvTile
from .conv import load_pixels, operand
from .schedule import PixelMap, Schedule, Source, tables, weight_schedule


@triton.jit
def conv_weight_kernel(
    dy, x, dw, items, starts, height, columns, dy_stride, dy_group, x_stride, channels_out, channels_in,
    TMA: tl.constexpr, IEEE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEEP: tl.constexpr,
):  # fmt: skip
    """``dw`` fp32 [taps, channels_out, channels_in] from ``dy`` and ``x`` [height, columns, groups * channels]."""
    program = tl.program_id(0)
    for item in range(tl.load(starts + program), tl.load(starts + program + 1)):
        p_item = items + item * 10
        tap, group = tl.load(p_item), tl.load(p_item + 1)
        o_out, o_in = tl.load(p_item + 2) * ROWS, tl.load(p_item + 3) * COLUMNS
        row, n_rows = tl.load(p_item + 4), tl.load(p_item + 5)
        column, n_steps = tl.load(p_item + 6), tl.load(p_item + 7)
        down, across = tl.load(p_item + 8), tl.load(p_item + 9)
        acc = tl.zeros([ROWS, COLUMNS], tl.float32)
        for step in range(0, n_rows * n_steps):
            i_row, i_column = row + step // n_steps, column + step % n_steps * DEEP
            o_dy = group * dy_group + o_out
            b_dy = load_pixels(dy, i_row, i_column, o_dy, height, columns, dy_stride, DEEP, ROWS, TMA)
            b_x = load_pixels(x, i_row + down, i_column + across, o_in, height, columns, x_stride, DEEP, COLUMNS, TMA)
            acc = tl.dot(b_dy.T, b_x, acc, input_precision="ieee" if IEEE else "tf32")
        o_row, o_column = o_out + tl.arange(0, ROWS), o_in + tl.arange(0, COLUMNS)
        p_dw = dw + tl.cast(tap * channels_out, tl.int64) * channels_in + o_row[:, None] * channels_in
        m_dw = (o_row < channels_out)[:, None] & (o_column < channels_in)[None, :]
        tl.store(p_dw + o_column[None, :], acc, mask=m_dw)


def conv_weight(
    dy: Tensor, x: Tensor, dw: Tensor, map_: PixelMap, sources: Sequence[Source], tile: ConvTile
) -> Schedule:
    """Fill ``dw`` fp32 ``[taps, out, in]``, from ``dy`` ``[height, columns, groups, out]`` and ``x`` ``[height,
    columns, 1, in]``, both contiguous; returns what was scheduled. A source's group is one of ``dy``.
    """
    _, channels_out, channels_in = dw.shape
    schedule = weight_schedule(
        map_, tuple(sources), triton.cdiv(channels_out, tile.rows), triton.cdiv(channels_in, tile.columns), tile.deep,
        tile.resident * device_info.multiprocessors(x.device),
    )  # fmt: skip
    items, starts = tables(schedule, x.device)
    tma = device_info.has_tma(x.device)
    dy, x = (t.view(t.shape[0], t.shape[1], -1) for t in (dy, x))
    launch(
        conv_weight_kernel, (len(schedule.starts) - 1,), tile,
        {
            "TMA": tma, "IEEE": x.dtype == torch.float32,
            "ROWS": tile.rows, "COLUMNS": tile.columns, "DEEP": tile.deep,
        },
        dy=operand(dy, (1, tile.deep, tile.rows), tma), x=operand(x, (1, tile.deep, tile.columns), tma), dw=dw,
        items=items, starts=starts, height=map_.height, columns=map_.columns, dy_stride=dy.shape[2],
        dy_group=channels_out, x_stride=x.shape[2], channels_out=channels_out, channels_in=channels_in,
    )  # fmt: skip
    return schedule
