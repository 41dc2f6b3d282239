"""Kernels of normalise (+ residual) (+ ReLU), one pass forward; backward a reduction and a pass.

All work on matrices ``[rows, channels]``: a channels-last activation's pixels. Arithmetic is fp32.
``mean`` and ``variance`` are fp32 ``[channels]``, of the batch or running.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...triton.launch import launch
from ...triton.tiles import (
    MERGE,
    NORM,
    NORM_BACKWARD,
    NORM_PAIR,
    SUMS,
    SUMS_PAIR,
    SUMS_PAIR_PROGRAMS,
    SUMS_PROGRAMS,
    choose,
)
from .batch_norm_stats import reduction_programs

Vectors = tuple[Tensor, Tensor, Tensor, Tensor]  # mean, variance, weight and bias, [channels]


@triton.jit
def channel_constants(mean, variance, weight, bias, eps, o_column, m_column):
    """Mean, 1/deviation, weight and bias of some channels, each [1, COLUMNS]."""
    b_mean = tl.load(mean + o_column, mask=m_column, other=0.0)
    b_inverse = tl.rsqrt(tl.load(variance + o_column, mask=m_column, other=1.0) + eps)
    b_weight = tl.load(weight + o_column, mask=m_column, other=0.0).to(tl.float32)
    b_bias = tl.load(bias + o_column, mask=m_column, other=0.0).to(tl.float32)
    return b_mean[None, :], b_inverse[None, :], b_weight[None, :], b_bias[None, :]


@triton.jit
def tile_of(rows, channels, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """This program's tile of a matrix [rows, channels]: offsets and mask, and those of its channels."""
    blocks = tl.cdiv(channels, COLUMNS)
    start = tl.program_id(0) // blocks * ROWS
    o_column = tl.program_id(0) % blocks * COLUMNS + tl.arange(0, COLUMNS)
    m_column = o_column < channels
    o_row = tl.arange(0, ROWS)
    m_tile = (start + o_row < rows)[:, None] & m_column[None, :]
    o_tile = tl.cast(start, tl.int64) * channels + o_row[:, None] * channels + o_column[None, :]
    return o_tile, m_tile, o_column, m_column


@triton.jit
def norm_relu_kernel(
    x, residual, y, mean, variance, weight, bias, mean2, variance2, weight2, bias2, eps, rows, channels,
    RELU: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """``y = relu((x - mean) / sqrt(variance + eps) * weight + bias + residual)``.

    The residual is normalised too where ``mean2`` and the rest are given.
    """
    o_tile, m_tile, o_column, m_column = tile_of(rows, channels, ROWS, COLUMNS)
    b_mean, b_inverse, b_weight, b_bias = channel_constants(mean, variance, weight, bias, eps, o_column, m_column)
    b_x = tl.load(x + o_tile, mask=m_tile, other=0.0).to(tl.float32)
    b_y = (b_x - b_mean) * b_inverse * b_weight + b_bias
    if residual is not None:
        b_residual = tl.load(residual + o_tile, mask=m_tile, other=0.0).to(tl.float32)
        if mean2 is not None:
            b_mean2, b_inverse2, b_weight2, b_bias2 = channel_constants(
                mean2, variance2, weight2, bias2, eps, o_column, m_column
            )
            b_residual = (b_residual - b_mean2) * b_inverse2 * b_weight2 + b_bias2
        b_y += b_residual
    if RELU:
        b_y = tl.where(b_y < 0.0, 0.0, b_y)  # a NaN stays one
    tl.store(y + o_tile, b_y.to(y.dtype.element_ty), mask=m_tile)


@triton.jit
def masked_gradient(dy, more, x, y, o_tile, m_tile, b_mean, b_inverse, b_weight, b_bias, RELU: tl.constexpr):
    """Gradient of the sum before the ReLU, and x-hat. The mask comes from ``y`` where there is a residual.

    ``more``: the gradient of a second reader, or None; the sum of both is rounded as a tensor of it would be.
    """
    b_dz = tl.load(dy + o_tile, mask=m_tile, other=0.0).to(tl.float32)
    if more is not None:
        b_dz += tl.load(more + o_tile, mask=m_tile, other=0.0).to(tl.float32)
        b_dz = b_dz.to(dy.dtype.element_ty).to(tl.float32)
    b_x_hat = (tl.load(x + o_tile, mask=m_tile, other=0.0).to(tl.float32) - b_mean) * b_inverse
    if RELU:
        if y is not None:
            b_y = tl.load(y + o_tile, mask=m_tile, other=0.0).to(tl.float32)
        else:
            b_y = b_x_hat * b_weight + b_bias
        b_dz = tl.where(b_y <= 0.0, 0.0, b_dz)
    return b_dz, b_x_hat


@triton.jit
def norm_relu_sums_kernel(
    dy, more, x, y, x2, mean, variance, weight, bias, mean2, variance2, eps, dz, parts, rows, channels, width,
    RELU: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """``parts`` [programs, 2, width]: each program's sums of dz and of dz * x-hat; ``dz`` itself where given.

    ``x2``: what was normalised beside ``x`` and added; then ``width`` is twice the channels, and its sums come second.
    """
    i_part, i_block, n_parts = tl.program_id(0), tl.program_id(1), tl.num_programs(0)
    o_row = tl.arange(0, ROWS)
    o_column = i_block * COLUMNS + tl.arange(0, COLUMNS)
    m_column = o_column < channels
    b_mean, b_inverse, b_weight, b_bias = channel_constants(mean, variance, weight, bias, eps, o_column, m_column)
    b_sum = tl.zeros([ROWS, COLUMNS], tl.float32)
    b_product = tl.zeros([ROWS, COLUMNS], tl.float32)
    if x2 is not None:
        b_mean2 = tl.load(mean2 + o_column, mask=m_column, other=0.0)[None, :]
        b_inverse2 = tl.rsqrt(tl.load(variance2 + o_column, mask=m_column, other=1.0) + eps)[None, :]
        b_product2 = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(i_part * ROWS, rows, n_parts * ROWS):
        m_tile = (start + o_row < rows)[:, None] & m_column[None, :]
        o_tile = tl.cast(start, tl.int64) * channels + o_row[:, None] * channels + o_column[None, :]
        b_dz, b_x_hat = masked_gradient(dy, more, x, y, o_tile, m_tile, b_mean, b_inverse, b_weight, b_bias, RELU)
        if dz is not None:
            tl.store(dz + o_tile, b_dz.to(dz.dtype.element_ty), mask=m_tile)
        b_sum += b_dz
        b_product += b_dz * b_x_hat  # 0 outside the map: dz is
        if x2 is not None:
            b_x2 = tl.load(x2 + o_tile, mask=m_tile, other=0.0).to(tl.float32)
            b_product2 += b_dz * ((b_x2 - b_mean2) * b_inverse2)
    p_part = parts + i_part * 2 * width + o_column
    total = tl.sum(b_sum, 0)
    tl.store(p_part, total, mask=m_column)
    tl.store(p_part + width, tl.sum(b_product, 0), mask=m_column)
    if x2 is not None:
        tl.store(p_part + channels, total, mask=m_column)
        tl.store(p_part + width + channels, tl.sum(b_product2, 0), mask=m_column)


@triton.jit
def add_parts_kernel(parts, first, second, n_parts, channels, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """``parts`` [n_parts, 2, channels] -> ``first``, ``second`` [channels], added in the order of the parts."""
    o_part = tl.arange(0, ROWS)
    o_column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    m_column = o_column < channels
    b_first = tl.zeros([ROWS, COLUMNS], tl.float32)
    b_second = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, n_parts, ROWS):
        m_tile = (start + o_part < n_parts)[:, None] & m_column[None, :]
        p_part = parts + (start + o_part)[:, None] * 2 * channels + o_column[None, :]
        b_first += tl.load(p_part, mask=m_tile, other=0.0)
        b_second += tl.load(p_part + channels, mask=m_tile, other=0.0)
    tl.store(first + o_column, tl.sum(b_first, 0), mask=m_column)
    tl.store(second + o_column, tl.sum(b_second, 0), mask=m_column)


@triton.jit
def input_gradient(
    b_dz, b_x_hat, b_inverse, b_weight, sum_dz, sum_dz_x_hat, count, o_column, m_column,
    BATCH: tl.constexpr, SHARED: tl.constexpr,
):  # fmt: skip
    """Gradient of the normalisation's input from that of its output and its sums [channels] over ``count`` rows.

    BATCH: mean and variance are the batch's and carry gradient (Ioffe and Szegedy 2015, section 3).
    SHARED: the batch is that of all processes, and ``count`` lies on the device.
    """
    if BATCH:
        n = tl.load(count) if SHARED else count
        b_sum = tl.load(sum_dz + o_column, mask=m_column, other=0.0)[None, :] / n
        b_product = tl.load(sum_dz_x_hat + o_column, mask=m_column, other=0.0)[None, :] / n
        b_dz = b_dz - b_sum - b_x_hat * b_product
    return b_dz * b_inverse * b_weight


@triton.jit
def norm_relu_backward_kernel(
    dy, x, y, mean, variance, weight, bias, eps, sum_dz, sum_dz_x_hat, count, dx, dresidual, rows, channels,
    RELU: tl.constexpr, BATCH: tl.constexpr, SHARED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Gradients of ``x`` and of the residual; sums, BATCH and SHARED as of ``input_gradient``."""
    o_tile, m_tile, o_column, m_column = tile_of(rows, channels, ROWS, COLUMNS)
    b_mean, b_inverse, b_weight, b_bias = channel_constants(mean, variance, weight, bias, eps, o_column, m_column)
    b_dz, b_x_hat = masked_gradient(dy, None, x, y, o_tile, m_tile, b_mean, b_inverse, b_weight, b_bias, RELU)
    if dresidual is not None:
        tl.store(dresidual + o_tile, b_dz.to(dresidual.dtype.element_ty), mask=m_tile)
    b_dx = input_gradient(
        b_dz, b_x_hat, b_inverse, b_weight, sum_dz, sum_dz_x_hat, count, o_column, m_column, BATCH, SHARED
    )
    tl.store(dx + o_tile, b_dx.to(dx.dtype.element_ty), mask=m_tile)


def norm_relu(
    x: Tensor, residual: Tensor | None, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor,
    eps: float, relu: bool, y: Tensor, second: Vectors | None = None,
) -> None:  # fmt: skip
    """Fill ``y``; ``x``, ``residual``, ``y`` ``[rows, channels]`` contiguous, the rest ``[channels]``.

    ``second``: mean, variance, weight and bias by which the residual is normalised too.
    """
    rows, channels = x.shape
    tile = choose(NORM if second is None else NORM_PAIR, channels)
    grid = (triton.cdiv(rows, tile.rows) * triton.cdiv(channels, tile.columns),)
    constants = {"RELU": relu, "ROWS": tile.rows, "COLUMNS": tile.columns}
    mean2, variance2, weight2, bias2 = second or (None,) * 4
    launch(
        norm_relu_kernel, grid, tile, constants,
        x=x, residual=residual, y=y, mean=mean, variance=variance, weight=weight, bias=bias, mean2=mean2,
        variance2=variance2, weight2=weight2, bias2=bias2, eps=eps, rows=rows, channels=channels,
    )  # fmt: skip


def norm_relu_sums(
    dy: Tensor, x: Tensor, y: Tensor | None, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor,
    eps: float, relu: bool, more: Tensor | None = None, dz: Tensor | None = None,
    second: tuple[Tensor, Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return sums over the rows, fp32 ``[channels]``: of dz (the bias's gradient) and of dz * x-hat (the weight's).

    ``more``: a second gradient of the output, added to ``dy``. Fills ``dz``, where given. ``second``: what else was
    normalised and added, ``[rows, channels]``, and its mean and variance; then the sums are ``[2 * channels]``, its own
    behind those of ``x``.
    """
    rows, channels = x.shape
    table, most = (SUMS, SUMS_PROGRAMS) if second is None else (SUMS_PAIR, SUMS_PAIR_PROGRAMS)
    tile = choose(table, channels)
    blocks = triton.cdiv(channels, tile.columns)
    programs = reduction_programs(rows, tile.rows, blocks, most)
    x2, mean2, variance2 = second or (None,) * 3
    width = channels if x2 is None else 2 * channels
    parts = x.new_empty(programs, 2, width, dtype=torch.float32)
    constants = {"RELU": relu, "ROWS": tile.rows, "COLUMNS": tile.columns}
    launch(
        norm_relu_sums_kernel, (programs, blocks), tile, constants,
        dy=dy, more=more, x=x, y=y, x2=x2, mean=mean, variance=variance, weight=weight, bias=bias, mean2=mean2,
        variance2=variance2, eps=eps, dz=dz, parts=parts, rows=rows, channels=channels, width=width,
    )  # fmt: skip
    return add_parts(parts)


def add_parts(parts: Tensor) -> tuple[Tensor, Tensor]:
    """Return sums over the first dimension of fp32 ``[programs, 2, channels]``, in a fixed order."""
    n_parts, _, channels = parts.shape
    first, second = parts.new_empty(channels), parts.new_empty(channels)
    tile = choose(MERGE, n_parts)
    launch(
        add_parts_kernel, (triton.cdiv(channels, tile.columns),), tile,
        {"ROWS": tile.rows, "COLUMNS": tile.columns},
        parts=parts, first=first, second=second, n_parts=n_parts, channels=channels,
    )  # fmt: skip
    return first, second


def norm_relu_backward(
    dy: Tensor, x: Tensor, y: Tensor | None, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor,
    eps: float, relu: bool, sums: tuple[Tensor, Tensor], count: Tensor | float | None, dx: Tensor,
    dresidual: Tensor | None,
) -> None:  # fmt: skip
    """Fill ``dx`` and, where given, ``dresidual``.

    ``count``: rows behind the statistics, fp32 ``[1]`` where other processes had a part; None: running ones.
    """
    rows, channels = x.shape
    tile = choose(NORM_BACKWARD, channels)
    grid = (triton.cdiv(rows, tile.rows) * triton.cdiv(channels, tile.columns),)
    shared = isinstance(count, Tensor)
    constants = {
        "RELU": relu, "BATCH": count is not None, "SHARED": shared, "ROWS": tile.rows, "COLUMNS": tile.columns,
    }  # fmt: skip
    launch(
        norm_relu_backward_kernel, grid, tile, constants,
        dy=dy, x=x, y=y, mean=mean, variance=variance, weight=weight, bias=bias, eps=eps,
        sum_dz=sums[0], sum_dz_x_hat=sums[1], count=count, dx=dx, dresidual=dresidual, rows=rows, channels=channels,
    )  # fmt: skip
