"""Kernels of the stem's normalise + ReLU + 3x3 max-pooling (stride 2, padding 1), one pass each way.

The normalised full-resolution activation is never stored: forward keeps, for each pooled value, which of
the window's nine taps it came from (one byte), and backward gathers each input pixel's gradient from the at
most four windows that it lies in.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...triton.launch import launch
from ...triton.tiles import POOL, POOL_PROGRAMS, choose
from .batch_norm_stats import reduction_programs
from .norm_relu import add_parts, channel_constants, input_gradient


@triton.jit
def strip_of(width, channels, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """This program's row of all images' rows, its pixels there and its channels."""
    strips, blocks = tl.cdiv(width, ROWS), tl.cdiv(channels, COLUMNS)
    program = tl.program_id(0)
    o_column = program % blocks * COLUMNS + tl.arange(0, COLUMNS)
    o_pixel = program // blocks % strips * ROWS + tl.arange(0, ROWS)
    return program // blocks // strips, o_pixel, o_column


@triton.jit
def norm_relu_pool_kernel(
    x, y, taps, mean, variance, weight, bias, eps, height, width, pooled_height, pooled_width, channels,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """``x`` [N, height, width, channels] -> ``y`` and ``taps`` (uint8) [N, pooled_height, pooled_width, channels]."""
    row, o_pixel, o_column = strip_of(pooled_width, channels, ROWS, COLUMNS)
    n, i = row // pooled_height, row % pooled_height
    m_column = o_column < channels
    m_out = (o_pixel < pooled_width)[:, None] & m_column[None, :]
    b_mean, b_inverse, b_weight, b_bias = channel_constants(mean, variance, weight, bias, eps, o_column, m_column)
    b_best = tl.full([ROWS, COLUMNS], float("-inf"), tl.float32)
    b_tap = tl.zeros([ROWS, COLUMNS], tl.int32)
    for tap in tl.static_range(9):
        source_row = 2 * i - 1 + tap // 3
        source = 2 * o_pixel - 1 + tap % 3
        m_source = (source >= 0) & (source < width) & (source_row >= 0) & (source_row < height)
        p_row = x + (tl.cast(n, tl.int64) * height + source_row) * width * channels
        m_x = m_out & m_source[:, None]
        b_x = tl.load(p_row + source[:, None] * channels + o_column[None, :], mask=m_x, other=0.0).to(tl.float32)
        b_z = (b_x - b_mean) * b_inverse * b_weight + b_bias
        m_better = m_x & ((b_z > b_best) | (b_z != b_z))
        b_best = tl.where(m_better, b_z, b_best)
        b_tap = tl.where(m_better, tap, b_tap)
    b_best = tl.where(b_best < 0.0, 0.0, b_best)
    o_out = tl.cast(row, tl.int64) * pooled_width * channels + o_pixel[:, None] * channels + o_column[None, :]
    tl.store(y + o_out, b_best.to(y.dtype.element_ty), mask=m_out)
    tl.store(taps + o_out, b_tap.to(tl.uint8), mask=m_out)


@triton.jit
def pooled_gradient(
    dy, taps, n, i, o_pixel, o_column, m_tile, pooled_height, pooled_width, channels,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Gradient that row ``i``'s pixels get from the windows whose maximum they are, fp32 [ROWS, COLUMNS].

    An even row lies in the middle of one window, an odd one at the bottom of one and the top of the next.
    """
    b_dz = tl.zeros([ROWS, COLUMNS], tl.float32)
    for down in tl.static_range(2):
        pooled_row = (i + down) // 2
        if pooled_row < pooled_height and (down == 0 or i % 2 == 1):
            o_row = (tl.cast(n, tl.int64) * pooled_height + pooled_row) * pooled_width * channels
            for right in tl.static_range(2):
                pooled = (o_pixel + right) // 2
                m_pixel = (pooled < pooled_width) & ((right == 0) | (o_pixel % 2 == 1))
                m_window = m_tile & m_pixel[:, None]
                tap = (i - 2 * pooled_row + 1) * 3 + (o_pixel - 2 * pooled + 1)
                o_window = o_row + pooled[:, None] * channels + o_column[None, :]
                b_dy = tl.load(dy + o_window, mask=m_window, other=0.0).to(tl.float32)
                b_tap = tl.load(taps + o_window, mask=m_window, other=255).to(tl.int32)
                b_dz += tl.where(b_tap == tap[:, None], b_dy, 0.0)
    return b_dz


@triton.jit
def norm_relu_pool_sums_kernel(
    dy, taps, x, mean, variance, weight, bias, eps, parts, images, height, width, pooled_height, pooled_width,
    channels, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """``parts`` [programs, 2, channels]: each program's sums of dz and of dz * x-hat."""
    i_part, n_parts = tl.program_id(0), tl.num_programs(0)
    o_column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    m_column = o_column < channels
    strips = tl.cdiv(width, ROWS)
    b_mean, b_inverse, b_weight, b_bias = channel_constants(mean, variance, weight, bias, eps, o_column, m_column)
    b_sum = tl.zeros([ROWS, COLUMNS], tl.float32)
    b_product = tl.zeros([ROWS, COLUMNS], tl.float32)
    for strip in range(i_part, images * height * strips, n_parts):
        row = strip // strips
        n, i = row // height, row % height
        o_pixel = strip % strips * ROWS + tl.arange(0, ROWS)
        m_tile = (o_pixel < width)[:, None] & m_column[None, :]
        p_row = x + tl.cast(row, tl.int64) * width * channels
        b_x = tl.load(p_row + o_pixel[:, None] * channels + o_column[None, :], mask=m_tile, other=0.0).to(tl.float32)
        b_dz = pooled_gradient(
            dy, taps, n, i, o_pixel, o_column, m_tile, pooled_height, pooled_width, channels, ROWS, COLUMNS
        )
        b_x_hat = (b_x - b_mean) * b_inverse
        b_dz = tl.where(b_x_hat * b_weight + b_bias <= 0.0, 0.0, b_dz)
        b_sum += b_dz
        b_product += b_dz * b_x_hat
    p_part = parts + i_part * 2 * channels + o_column
    tl.store(p_part, tl.sum(b_sum, 0), mask=m_column)
    tl.store(p_part + channels, tl.sum(b_product, 0), mask=m_column)


@triton.jit
def norm_relu_pool_backward_kernel(
    dy, taps, x, mean, variance, weight, bias, eps, sum_dz, sum_dz_x_hat, count, dx, height, width, pooled_height,
    pooled_width, channels, BATCH: tl.constexpr, SHARED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Gradient of ``x``; sums, BATCH and SHARED as of ``input_gradient``."""
    row, o_pixel, o_column = strip_of(width, channels, ROWS, COLUMNS)
    n, i = row // height, row % height
    m_column = o_column < channels
    m_tile = (o_pixel < width)[:, None] & m_column[None, :]
    b_mean, b_inverse, b_weight, b_bias = channel_constants(mean, variance, weight, bias, eps, o_column, m_column)
    o_tile = tl.cast(row, tl.int64) * width * channels + o_pixel[:, None] * channels + o_column[None, :]
    b_x_hat = (tl.load(x + o_tile, mask=m_tile, other=0.0).to(tl.float32) - b_mean) * b_inverse
    b_dz = pooled_gradient(
        dy, taps, n, i, o_pixel, o_column, m_tile, pooled_height, pooled_width, channels, ROWS, COLUMNS
    )
    b_dz = tl.where(b_x_hat * b_weight + b_bias <= 0.0, 0.0, b_dz)
    b_dx = input_gradient(
        b_dz, b_x_hat, b_inverse, b_weight, sum_dz, sum_dz_x_hat, count, o_column, m_column, BATCH, SHARED
    )
    tl.store(dx + o_tile, b_dx.to(dx.dtype.element_ty), mask=m_tile)


def norm_relu_pool(
    x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float, y: Tensor, taps: Tensor
) -> None:
    """Fill ``y`` and ``taps`` ``[N, H', W', C]``; ``x`` ``[N, H, W, C]``, all contiguous."""
    _, height, width, channels = x.shape
    images, pooled_height, pooled_width, _ = y.shape
    tile = choose(POOL, channels)
    grid = (images * pooled_height * triton.cdiv(pooled_width, tile.rows) * triton.cdiv(channels, tile.columns),)
    launch(
        norm_relu_pool_kernel, grid, tile, {"ROWS": tile.rows, "COLUMNS": tile.columns},
        x=x, y=y, taps=taps, mean=mean, variance=variance, weight=weight, bias=bias, eps=eps,
        height=height, width=width, pooled_height=pooled_height, pooled_width=pooled_width, channels=channels,
    )  # fmt: skip


def norm_relu_pool_sums(
    dy: Tensor, taps: Tensor, x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Return, as ``norm_relu_sums``, the gradients of bias and weight, fp32 ``[C]``."""
    images, height, width, channels = x.shape
    tile = choose(POOL, channels)
    blocks = triton.cdiv(channels, tile.columns)
    programs = reduction_programs(images * height * triton.cdiv(width, tile.rows), 1, blocks, POOL_PROGRAMS)
    parts = x.new_empty(programs, 2, channels, dtype=torch.float32)
    launch(
        norm_relu_pool_sums_kernel, (programs, blocks), tile, {"ROWS": tile.rows, "COLUMNS": tile.columns},
        dy=dy, taps=taps, x=x, mean=mean, variance=variance, weight=weight, bias=bias, eps=eps, parts=parts,
        images=images, height=height, width=width, pooled_height=dy.shape[1], pooled_width=dy.shape[2],
        channels=channels,
    )  # fmt: skip
    return add_parts(parts)


def norm_relu_pool_backward(
    dy: Tensor, taps: Tensor, x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float,
    sums: tuple[Tensor, Tensor], count: Tensor | float | None, dx: Tensor,
) -> None:  # fmt: skip
    """Fill ``dx`` ``[N, H, W, C]``; ``count`` as in ``norm_relu_backward``."""
    images, height, width, channels = x.shape
    tile = choose(POOL, channels)
    grid = (images * height * triton.cdiv(width, tile.rows) * triton.cdiv(channels, tile.columns),)
    constants = {
        "BATCH": count is not None, "SHARED": isinstance(count, Tensor), "ROWS": tile.rows, "COLUMNS": tile.columns,
    }  # fmt: skip
    launch(
        norm_relu_pool_backward_kernel, grid, tile, constants,
        dy=dy, taps=taps, x=x, mean=mean, variance=variance, weight=weight, bias=bias, eps=eps,
        sum_dz=sums[0], sum_dz_x_hat=sums[1], count=count, dx=dx, height=height, width=width,
        pooled_height=dy.shape[1], pooled_width=dy.shape[2], channels=channels,
    )  # fmt: skip
