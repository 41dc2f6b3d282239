"""Layouts of activations ``[N, C, H, W]`` in memory: channels-last, or pixel-major.

Channels-last is ``[N, H, W, C]``; pixel-major ``[H, W, N, C]``: all images of a pixel beside each other. Both are
only strides, so every torch operation takes both. A convolution whose taps hang over the map's edge leaves out more of
them in pixel-major tiles, which are few pixels of many images; to whatever works pixel by pixel the order is the same.
"""

from torch import Tensor

CHANNELS_LAST, PIXEL_MAJOR = (0, 2, 3, 1), (2, 3, 0, 1)


def is_pixel_major(x: Tensor) -> bool:
    """Tell whether ``x`` ``[N, C, H, W]`` is stored so; what is both (one image or pixel) counts as channels-last."""
    return x.permute(PIXEL_MAJOR).is_contiguous() and not x.permute(CHANNELS_LAST).is_contiguous()


def pixel_major(x: Tensor) -> Tensor:
    """Return ``x`` ``[N, C, H, W]`` stored so, copied unless it is already."""
    return x.permute(PIXEL_MAJOR).contiguous().permute(PIXEL_MAJOR)  # the permutation is its own inverse


def empty_pixel_major(like: Tensor, n: int, c: int, h: int, w: int) -> Tensor:
    """Return an uninitialised ``[n, c, h, w]`` stored so, of the type and device of ``like``."""
    return like.new_empty(h, w, n, c).permute(PIXEL_MAJOR)


def as_rows(x: Tensor, like: Tensor | None = None) -> Tensor:
    """Return ``[N*H*W, C]`` of ``[N, C, H, W]``, contiguous, in the order of ``like`` (default ``x``): view or copy."""
    order = PIXEL_MAJOR if is_pixel_major(x if like is None else like) else CHANNELS_LAST
    return x.permute(order).contiguous().flatten(0, 2)


def from_rows(rows: Tensor, n: int, h: int, w: int, is_pixel_major: bool) -> Tensor:
    """Return rows ``[N*H*W, C]``, in either order, as ``[N, C, H, W]``: a view."""
    if is_pixel_major:
        return rows.view(h, w, n, -1).permute(PIXEL_MAJOR)
    return rows.view(n, h, w, -1).permute(0, 3, 1, 2)


def empty_like_rows(x: Tensor, channels: int | None = None) -> Tensor:
    """Return an uninitialised ``[N, C, H, W]`` like ``x``, or of so many channels; its rows have the same order."""
    n, c, h, w = x.shape
    c = c if channels is None else channels
    if is_pixel_major(x):
        return empty_pixel_major(x, n, c, h, w)
    return x.new_empty(n, h, w, c).permute(0, 3, 1, 2)
