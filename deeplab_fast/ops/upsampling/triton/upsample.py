"""Parts that the upsampling kernels share: bilinear interpolation of class scores, and their softmax."""

import triton
import triton.language as tl
from torch import Tensor


def strides(logits: Tensor) -> dict[str, int]:
    """Return the strides of ``[N, C, h, w]``, in elements, as the kernels name them."""
    return dict(zip(("stride_n", "stride_c", "stride_h", "stride_w"), logits.stride(), strict=True))


@triton.jit
def class_scores(p_corner, m_corner):
    """Scores of low-resolution pixels, fp32, 0 beyond the last class."""
    return tl.load(p_corner, mask=m_corner, other=0.0).to(tl.float32)


@triton.jit
def blend(top_left, top_right, bottom_left, bottom_right, b_down, b_right):
    """Bilinear: corners [1 or PIXELS, CLASSES], shares of the bottom and of the right [PIXELS, 1]."""
    top = top_left + (top_right - top_left) * b_right
    bottom = bottom_left + (bottom_right - bottom_left) * b_right
    return top + (bottom - top) * b_down


@triton.jit
def sampled_scores(
    p_image, i_row, b_down, i_column, b_right, m_pixel, m_class, o_class, stride_h, stride_w, h, w
):  # fmt: skip
    """Interpolated scores, fp32 [PIXELS, CLASSES], at cells and shares (see ``Cells``) of rows and columns [PIXELS]."""
    m_corner = m_pixel[:, None] & m_class[None, :]
    o_top, o_bottom = tl.maximum(i_row - 1, 0) * stride_h, tl.minimum(i_row, h - 1) * stride_h
    o_left, o_right = tl.maximum(i_column - 1, 0) * stride_w, tl.minimum(i_column, w - 1) * stride_w
    p_class = p_image + o_class[None, :]
    top_left = class_scores(p_class + (o_top + o_left)[:, None], m_corner)
    top_right = class_scores(p_class + (o_top + o_right)[:, None], m_corner)
    bottom_left = class_scores(p_class + (o_bottom + o_left)[:, None], m_corner)
    bottom_right = class_scores(p_class + (o_bottom + o_right)[:, None], m_corner)
    return blend(top_left, top_right, bottom_left, bottom_right, b_down[:, None], b_right[:, None])


@triton.jit
def log_softmax(b_scores, m_class):
    """``b_scores`` [PIXELS, CLASSES] -> exp(score - largest), 0 beyond the last class; the log of their sum plus the
    largest, so that log p = score - the latter [PIXELS]; and the sum [PIXELS]."""
    b_scores = tl.where(m_class[None, :], b_scores, float("-inf"))
    largest = tl.max(b_scores, 1)
    exponentials = tl.exp(b_scores - largest[:, None])
    total = tl.sum(exponentials, 1)
    return exponentials, largest + tl.log(total), total
