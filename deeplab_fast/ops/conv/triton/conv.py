"""Kernels of convolutions as matrix products: 3x3 at any rate and 1x1, with what follows them in the same launch.

Activations are pixel-major maps ``[height, width * images, groups * channels]``, or any rows ``[1, rows, channels]``
for a 1x1 convolution; weights ``[taps, out, in]``. A program takes the tiles that ``schedule.py`` gives it, and
computes of each the taps that are alive. Accumulators are fp32.

TMA: the GPU has a tensor memory accelerator (compute capability 9.0 and newer). Operands are then descriptors, and
it puts zeros where a tap hangs over the map's edge; older GPUs load by pointers and masks.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from ...triton import device_info
from ...triton.launch import launch
from ...triton.tiles import ConvTile, conv_tiles
from .schedule import PixelMap, Schedule, Source, shortest, tables


@triton.jit
def load_pixels(
    x, row, column, channel, height, columns, stride, WIDE: tl.constexpr, DEEP: tl.constexpr, TMA: tl.constexpr
):
    """[WIDE, DEEP] of a map from any place, zeros outside of it."""
    if TMA:
        b_x = x.load([row, column, channel]).reshape(WIDE, DEEP)
    else:
        o_column, o_channel = column + tl.arange(0, WIDE), channel + tl.arange(0, DEEP)
        m_pixel = (o_column >= 0) & (o_column < columns) & (row >= 0) & (row < height)
        p_x = x + tl.cast(row * columns + column, tl.int64) * stride
        p_x = p_x + tl.arange(0, WIDE)[:, None] * stride + o_channel[None, :]
        b_x = tl.load(p_x, mask=m_pixel[:, None] & (o_channel < stride)[None, :], other=0.0)
    return b_x


@triton.jit
def load_weights(
    w, tap, o_out, k, channels_out, channels_in,
    COLUMNS: tl.constexpr, DEEP: tl.constexpr, TRANSPOSED: tl.constexpr, TMA: tl.constexpr,
):  # fmt: skip
    """[DEEP, COLUMNS] of a tap's matrix; TRANSPOSED: the sum runs over its rows, which are output channels."""
    o_k, o_column = k + tl.arange(0, DEEP), o_out + tl.arange(0, COLUMNS)
    if TRANSPOSED:
        if TMA:
            b_w = w.load([tap, k, o_out]).reshape(DEEP, COLUMNS)
        else:
            m_w = (o_k < channels_out)[:, None] & (o_column < channels_in)[None, :]
            p_w = w + tap * channels_out * channels_in + o_k[:, None] * channels_in + o_column[None, :]
            b_w = tl.load(p_w, mask=m_w, other=0.0)
    else:
        if TMA:
            b_w = w.load([tap, o_out, k]).reshape(COLUMNS, DEEP).T
        else:
            m_w = (o_k < channels_in)[:, None] & (o_column < channels_out)[None, :]
            p_w = w + tap * channels_out * channels_in + o_column[None, :] * channels_in + o_k[:, None]
            b_w = tl.load(p_w, mask=m_w, other=0.0)
    return b_w


@triton.jit
def accumulate(
    x, w, p_item, row, column, o_out, height, columns, images, x_stride, x_group, w_out, w_in, k_blocks,
    SOURCES: tl.constexpr, TRANSPOSED: tl.constexpr, TMA: tl.constexpr, IEEE: tl.constexpr,
    WIDE: tl.constexpr, COLUMNS: tl.constexpr, DEEP: tl.constexpr,
):  # fmt: skip
    """The tile's sum over its sources, their live taps and the channels, fp32 [WIDE, COLUMNS]."""
    acc = tl.zeros([WIDE, COLUMNS], tl.float32)
    for source in tl.static_range(SOURCES):
        p_source = p_item + 4 + 7 * source
        o_in = tl.load(p_source) * x_group
        tap = tl.load(p_source + 1)
        rate = tl.load(p_source + 2)
        down, n_down = tl.load(p_source + 3), tl.load(p_source + 4)
        across, n_across = tl.load(p_source + 5), tl.load(p_source + 6)
        for step in range(0, n_down * n_across * k_blocks):
            live = step // k_blocks
            k = step % k_blocks * DEEP
            i, j = down + live // n_across, across + live % n_across
            i_row, i_column = row + (i - 1) * rate, column + (j - 1) * rate * images
            b_x = load_pixels(x, i_row, i_column, o_in + k, height, columns, x_stride, WIDE, DEEP, TMA)
            b_w = load_weights(w, tap + i * 3 + j, o_out, k, w_out, w_in, COLUMNS, DEEP, TRANSPOSED, TMA)
            acc = tl.dot(b_x, b_w, acc, input_precision="ieee" if IEEE else "tf32")
    return acc


@triton.jit
def store_pixels(
    y, b_y, row, column, group, o_out, columns, channels, stride,
    WIDE: tl.constexpr, COLUMNS: tl.constexpr, TMA: tl.constexpr,
):  # fmt: skip
    if TMA:
        y.store([row, column, group, o_out], b_y.reshape(1, WIDE, 1, COLUMNS))
    else:
        o_pixel, o_channel = column + tl.arange(0, WIDE), o_out + tl.arange(0, COLUMNS)
        p_y = y + tl.cast(row * columns + column, tl.int64) * stride + tl.arange(0, WIDE)[:, None] * stride
        m_y = (o_pixel < columns)[:, None] & (o_channel < channels)[None, :]
        tl.store(p_y + group * channels + o_channel[None, :], b_y, mask=m_y)


@triton.jit
def store_moments(parts, acc, m_pixel, count, part, o_channel, m_channel, stride):
    """Count, mean and M2 of each channel of ``acc`` [WIDE, COLUMNS], into ``parts`` [tiles, 3, stride].

    ``acc`` changes in place: a second copy of the accumulators has no room in the registers.
    """
    acc = tl.where(m_pixel, acc, 0.0)
    mean = tl.sum(acc, 0) / count
    acc = acc - mean[None, :]
    m2 = tl.sum(tl.where(m_pixel, acc * acc, 0.0), 0)
    p_part = parts + part * 3 * stride + o_channel
    tl.store(p_part, mean * 0.0 + count, mask=m_channel)
    tl.store(p_part + stride, mean, mask=m_channel)
    tl.store(p_part + 2 * stride, m2, mask=m_channel)


@triton.jit
def conv_kernel(
    x, w, y, items, starts, parts, scale, shift, height, columns, images, x_stride, x_group, w_out, w_in, k_blocks,
    y_channels, y_stride,
    SOURCES: tl.constexpr, TRANSPOSED: tl.constexpr, RELU: tl.constexpr, TMA: tl.constexpr, IEEE: tl.constexpr,
    DTYPE: tl.constexpr, WIDE: tl.constexpr, COLUMNS: tl.constexpr, DEEP: tl.constexpr,
):  # fmt: skip
    """``y`` [height, columns, groups, y_channels] = convolution of ``x``; then as arguments are given:

    ``parts`` [tiles, 3, groups * y_channels]: the moments of what is stored;
    ``scale``, ``shift`` [groups * y_channels]: a BatchNorm with running statistics, RELU after it.
    """
    program = tl.program_id(0)
    for item in range(tl.load(starts + program), tl.load(starts + program + 1)):
        p_item = items + item * (4 + 7 * SOURCES)
        row, column, group = tl.load(p_item), tl.load(p_item + 1), tl.load(p_item + 2)
        o_out = tl.load(p_item + 3) * COLUMNS
        acc = accumulate(
            x, w, p_item, row, column, o_out, height, columns, images, x_stride, x_group, w_out, w_in, k_blocks,
            SOURCES, TRANSPOSED, TMA, IEEE, WIDE, COLUMNS, DEEP,
        )  # fmt: skip
        o_channel = o_out + tl.arange(0, COLUMNS)
        m_channel = o_channel < y_channels
        if scale is not None:
            b_scale = tl.load(scale + group * y_channels + o_channel, mask=m_channel, other=0.0)
            b_shift = tl.load(shift + group * y_channels + o_channel, mask=m_channel, other=0.0)
            acc = acc * b_scale[None, :] + b_shift[None, :]
            if RELU:
                acc = tl.where(acc < 0.0, 0.0, acc)
        acc = acc.to(DTYPE)
        store_pixels(y, acc, row, column, group, o_out, columns, y_channels, y_stride, WIDE, COLUMNS, TMA)
        if parts is not None:
            m_pixel = (column + tl.arange(0, WIDE) < columns)[:, None]
            part = row * tl.cdiv(columns, WIDE) + column // WIDE
            count = tl.minimum(WIDE, columns - column).to(tl.float32)
            p_parts = parts + group * y_channels
            store_moments(p_parts, acc.to(tl.float32), m_pixel, count, part, o_channel, m_channel, y_stride)


TYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}


def constants_of(x: Tensor, relu: bool, tma: bool, tile: ConvTile) -> dict[str, Any]:
    """Return what every kernel of a convolution of ``x`` (any shape) is compiled for."""
    return {
        "RELU": relu, "TMA": tma, "IEEE": x.dtype == torch.float32, "DTYPE": TYPES[x.dtype],
        "WIDE": tile.rows, "COLUMNS": tile.columns, "DEEP": tile.deep,
    }  # fmt: skip


def operand(tensor: Tensor, block: Sequence[int], tma: bool) -> Any:
    return TensorDescriptor.from_tensor(tensor, list(block)) if tma else tensor


def conv(
    x: Tensor, weight: Tensor, y: Tensor, map_: PixelMap, outputs: Sequence[Sequence[Source]],
    transposed: bool = False, parts: Tensor | None = None, scale: Tensor | None = None, shift: Tensor | None = None,
    relu: bool = False, tile: ConvTile | None = None,
) -> Schedule:  # fmt: skip
    """Fill ``y`` ``[height, columns, groups, channels]`` and, where given, ``parts``; returns what was scheduled.

    ``tile``: None for the one that ends first. ``x`` is ``[height, columns, groups, channels]``, ``weight`` ``[taps,
    out, in]`` of its dtype; both are contiguous.
    """
    taps_in, k = (weight.shape[2], weight.shape[1])[:: -1 if transposed else 1]
    assert x.shape[3] == taps_in
    assert y.shape[3] == k
    tiles = (tile,) if tile else conv_tiles(k, device_info.architecture(x.device), device_info.is_wide(x))
    tile, schedule, _ = shortest(
        tiles, map_, tuple(map(tuple, outputs)), taps_in, k, device_info.multiprocessors(x.device)
    )
    items, starts = tables(schedule, x.device)
    tma = device_info.has_tma(x.device)
    flat = x.view(x.shape[0], x.shape[1], -1)
    block = (1, tile.deep, tile.columns) if transposed else (1, tile.columns, tile.deep)
    launch(
        conv_kernel, (len(schedule.starts) - 1,), tile,
        {"SOURCES": len(outputs[0]), "TRANSPOSED": transposed, **constants_of(x, relu, tma, tile)},
        x=operand(flat, (1, tile.rows, tile.deep), tma), w=operand(weight, block, tma),
        y=operand(y, (1, tile.rows, 1, tile.columns), tma), items=items, starts=starts, parts=parts,
        scale=scale, shift=shift, height=map_.height, columns=map_.columns, images=map_.images,
        x_stride=flat.shape[2], x_group=x.shape[3], w_out=weight.shape[1], w_in=weight.shape[2],
        k_blocks=triton.cdiv(taps_in, tile.deep), y_channels=y.shape[3], y_stride=y.shape[2] * y.shape[3],
    )  # fmt: skip
    return schedule
