"""Convolutions of one input side by side, concatenated, in one launch with the moments of their outputs.

1x1 and 3x3 atrous convolutions of stride 1 whose padding is their rate. One branch is a convolution, four are those of
ASPP. Gradients: that of the input is one product summed over all branches and taps, those of the weights
one launch over the rectangles of pixels that each tap reads.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..dispatch import is_eager, traceable
from ..layout import as_rows, empty_like_rows, empty_pixel_major, pixel_major
from ..triton import DTYPES, device_info
from ..triton.tiles import CONV_WEIGHT, CONV_WEIGHT_FP32, FORWARD, INPUT_GRADIENT, ConvTile, choose
from . import measurements
from .gemm import weight_gradient
from .triton.schedule import PixelMap, Source
from .weight_copies import in_type

_ALIGNMENT = 16  # bytes, of a tensor descriptor's strides


def parallel_convs_reference(x: Tensor, weights: Sequence[Tensor], rates: Sequence[int]) -> Tensor:
    """Specify :func:`parallel_convs` ``[N, branches * K, H, W]``; a rate of 0 is a 1x1 convolution."""
    return torch.cat([F.conv2d(x, w, None, 1, r, max(r, 1)) for w, r in zip(weights, rates, strict=True)], 1)


def parallel_convs(
    x: Tensor, weights: Sequence[Tensor], rates: Sequence[int], moments: bool = True
) -> tuple[Tensor, Tensor]:
    """Convolve ``x`` with each of ``weights``, by kernels; :func:`supports` tells where they can.

    Args:
        x: ``[N, C, H, W]``, any strides. A 1x1 convolution alone takes its rows as they lie; else ``x`` is copied
            to pixel-major storage unless it is stored so.
        weights: for each branch ``[K, C, 3, 3]``, or ``[K, C, 1, 1]``, of any float type; all have the same K.
        rates: of each branch's taps in pixels; 0 for 1x1.
        moments: also return (count, mean, M2) of parts of the output, to be merged.

    Returns:
        ``[N, branches * K, H, W]`` in ``x``'s type, and fp32 ``[parts, 3, branches * K]`` or nothing in it.
        Differentiable in ``x`` and ``weights``, whose gradients have their own types; parts carry none.
    """
    apply = _apply_eager if is_eager(x) else _conv_branches
    y, parts = apply(x, list(weights), list(rates), moments)
    return y, parts


def parallel_convs_scaled(
    x: Tensor, weights: Sequence[Tensor], rates: Sequence[int], scale: Tensor, shift: Tensor, relu: bool
) -> Tensor:
    """Return ``relu(conv * scale + shift)`` in one launch, for inference: no gradient.

    ``scale``, ``shift``: fp32 ``[branches * K]``; the rest as in :func:`parallel_convs`.
    """
    return _conv_branches_with(x, list(weights), list(rates), scale, shift, relu)


def supports(x: Tensor, weights: Sequence[Tensor]) -> str | None:
    """Return why the kernels cannot take ``x`` ``[N, C, H, W]`` and these weights, or None."""
    if x.dtype not in DTYPES:
        return f"x is {x.dtype}; expected fp32, fp16 or bf16"
    if not x.numel():
        return "x is empty"
    for channels in (x.shape[1], weights[0].shape[0]):
        if channels * x.element_size() % _ALIGNMENT:
            return f"{channels} channels; expected a multiple of {_ALIGNMENT // x.element_size()}"
    return None


def as_map(x: Tensor, rates: Sequence[int]) -> tuple[Tensor, PixelMap]:
    """Return ``x`` as ``[height, columns, 1, C]``, and what its axes are."""
    if not any(rates):
        rows = as_rows(x)
        return rows[None, :, None], PixelMap(1, rows.shape[0], 1)
    n, c, h, w = x.shape
    return pixel_major(x).permute(2, 3, 0, 1).reshape(h, w * n, 1, c), PixelMap(h, w, n)


def _empty_output(x: Tensor, channels: int, rates: Sequence[int]) -> Tensor:
    n, _, h, w = x.shape
    if any(rates):
        return empty_pixel_major(x, n, channels, h, w)
    return empty_like_rows(x, channels)


def _taps_first(weights: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Return all branches' taps, ``[taps, K, C]``."""
    return torch.cat([in_type(w, dtype).permute(2, 3, 0, 1).flatten(0, 1) for w in weights])


def _sources(rates: Sequence[int]) -> list[Source]:
    starts = [sum(9 if r else 1 for r in rates[:i]) for i in range(len(rates))]
    return [Source(0, start, rate) for start, rate in zip(starts, rates, strict=True)]


def _forward(x: Tensor, weights: list[Tensor], rates: list[int], moments: bool) -> tuple[Tensor, Tensor]:
    parts = _empty_parts(x, weights, rates) if moments else x.new_empty(0, dtype=torch.float32)
    y = _launch(x, weights, rates, parts=parts if moments else None)
    return y, parts


def _launch(x: Tensor, weights: list[Tensor], rates: list[int], **epilogue) -> Tensor:  # type: ignore[no-untyped-def]
    from .triton import conv as kernels

    map_x, map_ = as_map(x, rates)
    channels = weights[0].shape[0]
    y = _empty_output(x, len(weights) * channels, rates)
    map_y = as_rows(y).view(*map_x.shape[:2], len(weights), channels)
    outputs = [(source,) for source in _sources(rates)]
    tile = best_tile(FORWARD, x, x.shape[1], channels, rates, map_)
    kernels.conv(map_x, _taps_first(weights, x.dtype), map_y, map_, outputs, tile=tile, **epilogue)
    return y


def best_tile(use: str, x: Tensor, c: int, k: int, rates: Sequence[int], map_: PixelMap) -> ConvTile | None:
    """Return the tile that a measurement found for ``x`` (any shape) on this GPU; None: the kernel's own choice."""
    if device_info.is_wide(x):
        return None
    return measurements.measured_tile(use, c, k, tuple(rates), map_, x.device)


def _empty_parts(x: Tensor, weights: list[Tensor], rates: list[int]) -> Tensor:
    n, _, h, w = x.shape
    map_ = PixelMap(h, w, n) if any(rates) else PixelMap(1, n * h * w, 1)
    return x.new_empty(map_.tiles, 3, len(weights) * weights[0].shape[0], dtype=torch.float32)


_conv_branches = torch.library.custom_op("deeplab_fast::conv_branches", _forward, mutates_args=())


@_conv_branches.register_fake
def _(x, weights, rates, moments):  # type: ignore[no-untyped-def]
    parts = _empty_parts(x, weights, rates) if moments else x.new_empty(0, dtype=torch.float32)
    return _empty_output(x, len(weights) * weights[0].shape[0], rates), parts


def _backward_pass(
    dy: Tensor, x: Tensor, weights: list[Tensor], rates: list[int], with_x: bool
) -> tuple[Tensor, list[Tensor]]:
    """Return gradients of ``x`` (empty unless asked for) and of the weights."""
    map_x, map_ = as_map(x, rates)
    dx = _empty_gradient(x, rates)  # and where it is not asked for, the order of its rows
    map_dy = as_rows(dy, dx).view(*map_x.shape[:2], len(weights), -1)
    if with_x:
        input_gradient(map_dy, as_rows(dx).view(map_x.shape), map_, weights, rates)
    if not any(rates) and len(rates) == 1:
        dtaps = weight_gradient(map_dy[0, :, 0], map_x[0, :, 0])[None]
    else:
        dtaps = _tap_gradients(map_dy, map_x, map_, weights, rates)
    parts = dtaps.split([w.shape[2] * w.shape[3] for w in weights])
    dweights = [torch.empty_like(w) for w in weights]  # stored as the weights are, so that autograd keeps them
    for dweight, part in zip(dweights, parts, strict=True):
        dweight.copy_(part.unflatten(0, dweight.shape[2:]).permute(2, 3, 0, 1))
    return (dx if with_x else x.new_empty(0)), dweights


def input_gradient(dy: Tensor, dx: Tensor, map_: PixelMap, weights: list[Tensor], rates: list[int]) -> None:
    """Fill the map ``dx`` ``[height, columns, 1, C]``: a convolution with its taps turned around, branches summed."""
    from .triton import conv as kernels

    turned = [Source(group, s.tap, -s.rate) for group, s in enumerate(_sources(rates))]
    tile = best_tile(INPUT_GRADIENT, dx, dx.shape[3], dy.shape[3], rates, map_)
    kernels.conv(dy, _taps_first(weights, dx.dtype), dx, map_, [turned], transposed=True, tile=tile)


def _tap_gradients(dy: Tensor, x: Tensor, map_: PixelMap, weights: list[Tensor], rates: list[int]) -> Tensor:
    """Return the gradients of all branches' taps, fp32 ``[taps, K, C]``."""
    from .triton import conv_weight as kernels

    taps, channels = sum(w.shape[2] * w.shape[3] for w in weights), weights[0].shape[0]
    dtaps = x.new_empty(taps, channels, x.shape[3], dtype=torch.float32)
    sources = [Source(group, s.tap, s.rate) for group, s in enumerate(_sources(rates))]
    kernels.conv_weight(
        dy, x, dtaps, map_, sources, choose(CONV_WEIGHT_FP32 if device_info.is_wide(x) else CONV_WEIGHT, channels)
    )
    return dtaps


def _empty_gradient(x: Tensor, rates: Sequence[int]) -> Tensor:
    return empty_pixel_major(x, *x.shape) if any(rates) else empty_like_rows(x)


def _empty_gradients(dy, x, weights, rates, with_x):  # type: ignore[no-untyped-def]
    dx = _empty_gradient(x, rates) if with_x else x.new_empty(0)
    return dx, [torch.empty_like(w) for w in weights]


_gradients = traceable("conv_branches_backward", _backward_pass, _empty_gradients)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, weights, ctx.rates, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(x, *weights)


def _backward(ctx, dy, _):  # type: ignore[no-untyped-def]
    x, *weights = ctx.saved_tensors
    dx, dweights = _gradients(dy, x, weights, ctx.rates, ctx.needs_input_grad[0])
    return dx if ctx.needs_input_grad[0] else None, dweights, None, None


_conv_branches.register_autograd(_backward, setup_context=_setup_context)


class _Eager(torch.autograd.Function):
    """The same for a flat list of arguments, which is what autograd sees tensors in."""

    @staticmethod
    def forward(x, rates, moments, *weights):  # type: ignore[no-untyped-def]
        return _forward(x, list(weights), rates, moments)

    @staticmethod
    def setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
        x, rates, moments, *weights = inputs
        _setup_context(ctx, (x, weights, rates, moments), output)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy, dparts):  # type: ignore[no-untyped-def]
        dx, dweights, *_ = _backward(ctx, dy, dparts)
        return dx, None, None, *dweights


def _apply_eager(x: Tensor, weights: list[Tensor], rates: list[int], moments: bool) -> tuple[Tensor, Tensor]:
    return _Eager.apply(x, rates, moments, *weights)


def _with(x: Tensor, weights: list[Tensor], rates: list[int], scale: Tensor, shift: Tensor, relu: bool) -> Tensor:
    return _launch(x, weights, rates, scale=scale, shift=shift, relu=relu)


def _empty_with(x, weights, rates, scale, shift, relu):  # type: ignore[no-untyped-def]
    return _empty_output(x, len(weights) * weights[0].shape[0], rates)


_conv_branches_with = traceable("conv_branches_with", _with, _empty_with)
