"""Kernel that puts an image's pixels, 2x2 of them, beside each other for the stem's convolution."""

import triton
import triton.language as tl
from torch import Tensor

from ...triton.launch import launch
from ...triton.tiles import STEM, choose


@triton.jit
def space_to_depth_kernel(x, out, height, width, high, wide, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """``x`` [N, height, width, 3] -> ``out`` [N, high, wide, 16]: ROWS pixels of one of its rows, COLUMNS channels.

    Channel 6b + 3b' + c of pixel (p, q) is channel c of pixel (2(p - 2) + b, 2(q - 2) + b'), or 0.
    """
    blocks = tl.cdiv(wide, ROWS)
    i_row, i_block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    image, p = i_row // high, i_row % high
    o_q = i_block * ROWS + tl.arange(0, ROWS)[:, None]
    o_channel = tl.arange(0, COLUMNS)[None, :]
    b, rest = o_channel // 6, o_channel % 6  # rest: 3b' + c
    row, column = 2 * (p - 2) + b, 2 * (o_q - 2) + rest // 3
    m_x = (o_q < wide) & (o_channel < 12) & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    p_image = x + tl.cast(image, tl.int64) * height * width * 3
    b_x = tl.load(p_image + (row * width + column) * 3 + rest % 3, mask=m_x, other=0.0)
    p_out = out + tl.cast(i_row, tl.int64) * wide * COLUMNS + o_q * COLUMNS + o_channel
    tl.store(p_out, b_x.to(out.dtype.element_ty), mask=(o_q < wide) & (o_channel < COLUMNS))


def space_to_depth(x: Tensor, out: Tensor) -> None:
    """Fill ``out`` ``[N, ceil(H / 2) + 3, ceil(W / 2) + 3, 16]`` from ``x`` ``[N, H, W, 3]``, contiguous both."""
    n, height, width, _ = x.shape
    _, high, wide, channels = out.shape
    tile = choose(STEM, channels)
    launch(
        space_to_depth_kernel, (n * high * triton.cdiv(wide, tile.rows),), tile,
        {"ROWS": tile.rows, "COLUMNS": tile.columns},
        x=x, out=out, height=height, width=width, high=high, wide=wide,
    )  # fmt: skip
