"""Kernels of batch statistics: (count, mean, M2) of each channel in one pass, merged in a fixed order.

M2 is the sum of squared deviations from the mean. Every element position of a tile runs Welford's
recurrence over the tiles that its program visits; positions, programs and, with SyncBN, processes are
then merged as in Chan, Golub and LeVeque (1979). No square of a raw value is ever summed.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...triton.launch import launch
from ...triton.tiles import MERGE, MOMENTS, MOMENTS_PROGRAMS, choose


@triton.jit
def moments_kernel(x, parts, rows, channels, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """``x`` [rows, channels] -> ``parts`` [programs, 3, channels]: count, mean, M2 of each program's rows.

    Means are relative to the first row, so that a large mean leaves the deviations their digits.
    """
    i_part, i_block, n_parts = tl.program_id(0), tl.program_id(1), tl.num_programs(0)
    o_row = tl.arange(0, ROWS)
    o_column = i_block * COLUMNS + tl.arange(0, COLUMNS)
    m_column = o_column < channels
    o_tile = o_row[:, None] * channels + o_column[None, :]
    origin = tl.load(x + o_column, mask=m_column, other=0.0).to(tl.float32)[None, :]
    b_count = tl.zeros([ROWS, 1], tl.float32)
    b_mean = tl.zeros([ROWS, COLUMNS], tl.float32)
    b_m2 = tl.zeros([ROWS, COLUMNS], tl.float32)
    visits = 0.0
    for start in range(i_part * ROWS, rows, n_parts * ROWS):
        m_row = (start + o_row < rows)[:, None]
        p_x = x + tl.cast(start, tl.int64) * channels + o_tile
        b_x = tl.load(p_x, mask=m_row & m_column[None, :], other=0.0).to(tl.float32) - origin
        visits += 1.0
        delta = b_x - b_mean
        b_mean = tl.where(m_row, b_mean + delta * (1.0 / visits), b_mean)
        b_m2 = tl.where(m_row, b_m2 + delta * (b_x - b_mean), b_m2)
        b_count += m_row.to(tl.float32)
    total = tl.sum(b_count)
    offset = tl.sum(b_count * b_mean, 0) / total
    deviation = b_mean - offset[None, :]
    m2 = tl.sum(b_m2 + b_count * deviation * deviation, 0)
    p_part = parts + i_part * 3 * channels + o_column
    tl.store(p_part, tl.zeros([COLUMNS], tl.float32) + total, mask=m_column)
    tl.store(p_part + channels, offset, mask=m_column)
    tl.store(p_part + 2 * channels, m2, mask=m_column)


@triton.jit
def merge_moments_kernel(
    parts, origin, merged, mean, variance, running_mean, running_var, momentum, n_parts, channels, stride,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """``parts`` [n_parts, 3, stride] -> ``merged`` [3, channels] or ``mean`` and ``variance`` [channels].

    The latter also move the running statistics [channels], the variance with n/(n-1). ``origin``: the row that
    the means are relative to, or None.
    """
    o_part = tl.arange(0, ROWS)
    o_column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    m_column = o_column < channels
    shift = tl.load(parts + stride + o_column, mask=m_column, other=0.0)
    b_count = tl.zeros([ROWS, COLUMNS], tl.float32)
    b_offset = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, n_parts, ROWS):
        m_tile = (start + o_part < n_parts)[:, None] & m_column[None, :]
        p_part = parts + (start + o_part)[:, None] * 3 * stride + o_column[None, :]
        count = tl.load(p_part, mask=m_tile, other=0.0)
        b_count += count
        b_offset += count * (tl.load(p_part + stride, mask=m_tile, other=0.0) - shift[None, :])
    total = tl.sum(b_count, 0)
    offset = tl.sum(b_offset, 0) / tl.maximum(total, 1.0)
    b_m2 = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, n_parts, ROWS):
        m_tile = (start + o_part < n_parts)[:, None] & m_column[None, :]
        p_part = parts + (start + o_part)[:, None] * 3 * stride + o_column[None, :]
        count = tl.load(p_part, mask=m_tile, other=0.0)
        deviation = tl.load(p_part + stride, mask=m_tile, other=0.0) - shift[None, :] - offset[None, :]
        b_m2 += tl.load(p_part + 2 * stride, mask=m_tile, other=0.0) + count * deviation * deviation
    b_mean, m2 = shift + offset, tl.sum(b_m2, 0)
    if origin is not None:
        b_mean += tl.load(origin + o_column, mask=m_column, other=0.0).to(tl.float32)
    if merged is not None:
        tl.store(merged + o_column, total, mask=m_column)
        tl.store(merged + channels + o_column, b_mean, mask=m_column)
        tl.store(merged + 2 * channels + o_column, m2, mask=m_column)
    else:
        tl.store(mean + o_column, b_mean, mask=m_column)
        tl.store(variance + o_column, m2 / tl.maximum(total, 1.0), mask=m_column)
        old_mean = tl.load(running_mean + o_column, mask=m_column, other=0.0)
        old_var = tl.load(running_var + o_column, mask=m_column, other=0.0)
        unbiased = m2 / tl.maximum(total - 1.0, 1.0)
        tl.store(running_mean + o_column, old_mean + momentum * (b_mean - old_mean), mask=m_column)
        tl.store(running_var + o_column, old_var + momentum * (unbiased - old_var), mask=m_column)


def reduction_programs(rows: int, tile_rows: int, channel_blocks: int, most: int) -> int:
    """Return how many programs share the rows; a constant of the shape, so that every GPU adds in the same order."""
    return max(1, min(triton.cdiv(rows, tile_rows), most // channel_blocks))


def partial_moments(x: Tensor) -> Tensor:
    """Return parts fp32 ``[programs, 3, channels]`` of ``x`` ``[rows, channels]``, means relative to the first row."""
    rows, channels = x.shape
    tile = choose(MOMENTS, channels)
    blocks = triton.cdiv(channels, tile.columns)
    programs = reduction_programs(rows, tile.rows, blocks, MOMENTS_PROGRAMS)
    parts = x.new_empty(programs, 3, channels, dtype=torch.float32)
    constants = {"ROWS": tile.rows, "COLUMNS": tile.columns}
    launch(moments_kernel, (programs, blocks), tile, constants, x=x, parts=parts, rows=rows, channels=channels)
    return parts


def merge_stats_and_update_running(
    parts: Tensor, running_mean: Tensor, running_var: Tensor, momentum: float
) -> tuple[Tensor, Tensor]:
    """Return of ``parts`` fp32 ``[tiles, 3, channels]``, any stride between rows, mean and biased variance, fp32
    ``[channels]``; moves the running ones.
    """
    mean, variance = torch.empty_like(running_mean), torch.empty_like(running_var)
    _merge(parts, None, None, mean, variance, running_mean, running_var, momentum)
    return mean, variance


def local_moments(x: Tensor) -> Tensor:
    """Return count, mean and M2 of ``x`` ``[rows, channels]``, fp32 ``[3, channels]``."""
    merged = x.new_empty(3, x.shape[1], dtype=torch.float32)
    _merge(partial_moments(x), x, merged, None, None, None, None, 0.0)
    return merged


def batch_norm_stats(x: Tensor, running_mean: Tensor, running_var: Tensor, momentum: float) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of ``x`` ``[rows, channels]``, fp32 ``[channels]``; move the running ones."""
    mean, variance = torch.empty_like(running_mean), torch.empty_like(running_var)
    _merge(partial_moments(x), x, None, mean, variance, running_mean, running_var, momentum)
    return mean, variance


def _merge(
    parts: Tensor, origin: Tensor | None, merged: Tensor | None, mean: Tensor | None, variance: Tensor | None,
    running_mean: Tensor | None, running_var: Tensor | None, momentum: float,
) -> None:  # fmt: skip
    n_parts, _, channels = parts.shape
    tile = choose(MERGE, n_parts)
    launch(
        merge_moments_kernel, (triton.cdiv(channels, tile.columns),), tile,
        {"ROWS": tile.rows, "COLUMNS": tile.columns},
        parts=parts, origin=origin, merged=merged, mean=mean, variance=variance, running_mean=running_mean,
        running_var=running_var, momentum=momentum, n_parts=n_parts, channels=channels, stride=parts.stride(1),
    )  # fmt: skip
