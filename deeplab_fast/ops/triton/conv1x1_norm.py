"""Kernels of a 1x1 convolution with the BatchNorm (+ residual) + ReLU before it in the same launch, both ways.

Forward, the prologue: ``z = relu(norm(x) + residual)`` is made on the way to the tensor cores, which take it from
registers. Backward, the epilogue of the gradient of z: the residual path's gradient added, the ReLU's mask, and
the two sums that the gradient of a BatchNorm needs; z itself, where forward did not keep it.

All tensors are rows ``[rows, channels]``; weights ``[out, in]``.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import chip
from .conv import SINGLE, accumulate, constants_of, load_pixels, load_weights, operand, store_moments
from .launch import launch
from .norm_relu import channel_constants
from .schedule import PixelMap, conv_schedule, tables
from .tiles import ConvTile


@triton.jit
def conv1x1_norm_kernel(
    x, residual, z, w, y, mean, variance, weight, bias, eps, items, starts, parts, rows, channels_in, channels_out,
    RELU: tl.constexpr, TMA: tl.constexpr, IEEE: tl.constexpr, DTYPE: tl.constexpr,
    WIDE: tl.constexpr, COLUMNS: tl.constexpr, DEEP: tl.constexpr,
):  # fmt: skip
    """``y = relu(norm(x) + residual) w^T`` and its moments ``parts``; ``z``, the input of the product, where given."""
    program = tl.program_id(0)
    for item in range(tl.load(starts + program), tl.load(starts + program + 1)):
        p_item = items + item * 11
        start, o_out = tl.load(p_item + 1), tl.load(p_item + 3) * COLUMNS
        acc = tl.zeros([WIDE, COLUMNS], tl.float32)
        o_row = tl.arange(0, WIDE)
        m_row = (start + o_row < rows)[:, None]
        o_first = tl.cast(start, tl.int64) * channels_in
        for k in range(0, channels_in, DEEP):
            o_k = k + tl.arange(0, DEEP)
            m_k = o_k < channels_in
            b_x = load_pixels(x, 0, start, k, 1, rows, channels_in, WIDE, DEEP, TMA).to(tl.float32)
            b_mean, b_inverse, b_weight, b_bias = channel_constants(mean, variance, weight, bias, eps, o_k, m_k)
            b_z = (b_x - b_mean) * b_inverse * b_weight + b_bias
            o_z = o_row[:, None] * channels_in + o_k[None, :]
            m_z = m_row & m_k[None, :]
            if residual is not None:
                b_z += tl.load(residual + o_first + o_z, mask=m_z, other=0.0).to(tl.float32)
            if RELU:
                b_z = tl.where(b_z < 0.0, 0.0, b_z)
            b_z = b_z.to(DTYPE)
            if z is not None:
                tl.store(z + o_first + o_z, b_z, mask=m_z & (o_out == 0))
            b_w = load_weights(w, 0, o_out, k, channels_out, channels_in, COLUMNS, DEEP, False, TMA)
            acc = tl.dot(b_z, b_w, acc, input_precision="ieee" if IEEE else "tf32")
        acc = acc.to(DTYPE)
        o_channel = o_out + tl.arange(0, COLUMNS)
        m_channel = o_channel < channels_out
        p_y = y + tl.cast(start, tl.int64) * channels_out + o_row[:, None] * channels_out + o_channel[None, :]
        tl.store(p_y, acc, mask=m_row & m_channel[None, :])
        if parts is not None:
            count = tl.minimum(WIDE, rows - start).to(tl.float32)
            store_moments(parts, acc.to(tl.float32), m_row, count, start // WIDE, o_channel, m_channel, channels_out)


@triton.jit
def conv1x1_norm_backward_kernel(
    dy, w, added, x, mask, dz, z, mean, variance, weight, bias, eps, items, starts, parts, rows, channels_out,
    channels_in, k_blocks,
    RELU: tl.constexpr, TMA: tl.constexpr, IEEE: tl.constexpr, DTYPE: tl.constexpr,
    WIDE: tl.constexpr, COLUMNS: tl.constexpr, DEEP: tl.constexpr,
):  # fmt: skip
    """``dz`` = mask of (``dy w`` + ``added``): the gradient before the ReLU, and of the residual.

    ``parts`` [tiles, 2, channels_in]: its sums, and those of dz * x-hat. ``mask``: the ReLU's output, where there was
    a residual; else it is made again, and stored as ``z`` where that is given.
    """
    program = tl.program_id(0)
    for item in range(tl.load(starts + program), tl.load(starts + program + 1)):
        p_item = items + item * 11
        start, o_out = tl.load(p_item + 1), tl.load(p_item + 3) * COLUMNS
        acc = accumulate(
            dy, w, p_item, 0, start, o_out, 1, rows, 1, channels_out, channels_out, channels_out, channels_in,
            k_blocks, 1, True, TMA, IEEE, WIDE, COLUMNS, DEEP,
        )  # fmt: skip
        o_row, o_channel = tl.arange(0, WIDE), o_out + tl.arange(0, COLUMNS)
        m_channel = o_channel < channels_in
        m_tile = (start + o_row < rows)[:, None] & m_channel[None, :]
        o_first = tl.cast(start, tl.int64) * channels_in
        o_tile = o_row[:, None] * channels_in + o_channel[None, :]
        if added is not None:
            acc += tl.load(added + o_first + o_tile, mask=m_tile, other=0.0).to(tl.float32)
        b_mean, b_inverse, b_weight, b_bias = channel_constants(mean, variance, weight, bias, eps, o_channel, m_channel)
        b_x_hat = (tl.load(x + o_first + o_tile, mask=m_tile, other=0.0).to(tl.float32) - b_mean) * b_inverse
        if mask is not None:
            b_z = tl.load(mask + o_first + o_tile, mask=m_tile, other=0.0).to(tl.float32)
        else:
            b_z = b_x_hat * b_weight + b_bias
        if RELU:
            acc = tl.where(b_z <= 0.0, 0.0, acc)
            b_z = tl.where(b_z < 0.0, 0.0, b_z)
        if z is not None:
            tl.store(z + o_first + o_tile, b_z.to(DTYPE), mask=m_tile)
        acc = tl.where(m_tile, acc.to(DTYPE).to(tl.float32), 0.0)
        tl.store(dz + o_first + o_tile, acc.to(DTYPE), mask=m_tile)
        p_part = parts + start // WIDE * 2 * channels_in + o_channel
        tl.store(p_part, tl.sum(acc, 0), mask=m_channel)
        tl.store(p_part + channels_in, tl.sum(acc * b_x_hat, 0), mask=m_channel)


def _rows_schedule(rows: int, k: int, columns: int, tile: ConvTile, device: torch.device) -> tuple[Tensor, Tensor]:
    schedule = conv_schedule(
        PixelMap(1, rows, 1), (SINGLE,), triton.cdiv(k, tile.deep), triton.cdiv(columns, tile.columns), tile.rows,
        tile.resident * chip.multiprocessors(device),
    )  # fmt: skip
    return tables(schedule, device)


def conv1x1_norm(
    x: Tensor, residual: Tensor | None, z: Tensor | None, w: Tensor, y: Tensor, mean: Tensor, variance: Tensor,
    weight: Tensor, bias: Tensor, eps: float, relu: bool, parts: Tensor | None, tile: ConvTile,
) -> None:  # fmt: skip
    """Fills ``y`` ``[rows, out]`` and, where given, ``parts`` fp32 ``[tiles, 3, out]`` and ``z`` ``[rows, in]``."""
    rows, channels_in = x.shape
    channels_out = w.shape[0]
    items, starts = _rows_schedule(rows, channels_in, channels_out, tile, x.device)
    tma = chip.has_tma(x.device)
    launch(
        conv1x1_norm_kernel, (len(starts) - 1,), tile,
        constants_of(x, relu, tma, tile),
        x=operand(x[None], (1, tile.rows, tile.deep), tma), residual=residual, z=z,
        w=operand(w[None], (1, tile.columns, tile.deep), tma), y=y, mean=mean, variance=variance, weight=weight,
        bias=bias, eps=eps, items=items, starts=starts, parts=parts, rows=rows, channels_in=channels_in,
        channels_out=channels_out,
    )  # fmt: skip


def conv1x1_norm_backward(
    dy: Tensor, w: Tensor, added: Tensor | None, x: Tensor, mask: Tensor | None, dz: Tensor, z: Tensor | None,
    mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float, relu: bool, parts: Tensor,
    tile: ConvTile,
) -> None:  # fmt: skip
    """Fills ``dz`` ``[rows, in]``, ``parts`` fp32 ``[tiles, 2, in]`` and, where given, ``z``."""
    rows, channels_out = dy.shape
    channels_in = w.shape[1]
    items, starts = _rows_schedule(rows, channels_out, channels_in, tile, x.device)
    tma = chip.has_tma(x.device)
    launch(
        conv1x1_norm_backward_kernel, (len(starts) - 1,), tile,
        constants_of(x, relu, tma, tile),
        dy=operand(dy[None], (1, tile.rows, tile.deep), tma), w=operand(w[None], (1, tile.deep, tile.columns), tma),
        added=added, x=x, mask=mask, dz=dz, z=z, mean=mean, variance=variance, weight=weight, bias=bias, eps=eps,
        items=items, starts=starts, parts=parts, rows=rows, channels_out=channels_out, channels_in=channels_in,
        k_blocks=triton.cdiv(channels_out, tile.deep),
    )  # fmt: skip
