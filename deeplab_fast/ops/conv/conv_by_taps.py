"""3x3 atrous convolutions as matrix products, a tap at a time: what a CPU does where its library is slow.

Each tap multiplies the rectangle of pixels that it reads by a matrix, so taps that hang over the map's edge cost only
what they read.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..dispatch import differentiable, traceable
from ..layout import CHANNELS_LAST


class Tap(NamedTuple):
    """Its place in the weights, the rectangle of outputs that it adds to and that of inputs that it reads."""

    place: int
    outputs: tuple[slice, slice]
    inputs: tuple[slice, slice]


def conv_by_taps(x: Tensor, weight: Tensor, rate: int, dtype: torch.dtype) -> Tensor:
    """Return ``conv2d(x, weight, padding=rate, dilation=rate)`` in ``dtype``.

    Args:
        x: ``[N, C, H, W]``, of any float type.
        weight: ``[K, C, 3, 3]``, of any float type.
        rate: distance of the taps in pixels; it may be larger than the map.
        dtype: of the products; their sums are fp32 (fp64 in fp64).

    Returns:
        ``[N, K, H, W]`` of ``dtype`` in channels-last storage. Differentiable in ``x`` and ``weight``, whose gradients
        have their own types.
    """
    return _conv_products(x, weight, rate, dtype)[0]


def prefers_taps(x: Tensor, rate: int, dtype: torch.dtype) -> bool:
    """Tell whether this is faster than the library's convolution of ``x`` ``[N, C, H, W]``, both passes together.

    By timings of both on a Xeon with AMX, over maps of 9 to 65 pixels, 512 and 2048 channels and batches of 1 to 8.
    """
    if x.device.type != "cpu" or dtype not in (torch.float32, torch.bfloat16) or torch.compiler.is_exporting():
        return False  # an exported network is to hold operations that every runtime has
    h, w = x.shape[2:]
    # The library's bf16 kernel leaves its fast path where many channels meet padding of 4 and more; and its gradients,
    # in every type, where the taps of one side hang over more than half of the map.
    wide = dtype == torch.bfloat16 and rate >= 4 and x.shape[1] >= 1024
    return wide or 2 * rate > min(h, w) > 1


def _taps(height: int, width: int, rate: int) -> Iterator[Tap]:
    """Yield those that read a pixel at all."""
    for i, down in enumerate((-rate, 0, rate)):
        for j, across in enumerate((-rate, 0, rate)):
            if abs(down) < height and abs(across) < width:
                rows, columns = _overlap(height, down), _overlap(width, across)
                yield Tap(3 * i + j, (rows[0], columns[0]), (rows[1], columns[1]))


def _overlap(size: int, shift: int) -> tuple[slice, slice]:
    """Return outputs, and the inputs ``shift`` away from them, where both are on the axis."""
    return slice(max(0, -shift), size - max(0, shift)), slice(max(0, shift), size - max(0, -shift))


def _pixels(x: Tensor, rectangle: tuple[slice, slice]) -> Tensor:
    """Return ``[pixels, C]`` of ``[N, H, W, C]``."""
    return x[:, rectangle[0], rectangle[1]].reshape(-1, x.shape[3])


class _Sum:
    """Products summed at their rectangles of a map ``[N, H, W, channels]``, in fp32; one of the whole map is all."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.shape, self.dtype = shape, dtype
        self.total: Tensor | None = None

    def add(self, product: Tensor, rectangle: tuple[slice, slice]) -> None:
        if self.total is None and product.numel() == torch.Size(self.shape).numel():
            self.total = product.view(self.shape)
            return
        if self.total is None:
            self.total = product.new_zeros(self.shape, dtype=torch.promote_types(self.dtype, torch.float32))
        part = self.total[:, rectangle[0], rectangle[1]]
        part += product.view(part.shape)

    def result(self) -> Tensor:
        """Return ``[N, channels, H, W]`` in channels-last storage."""
        assert self.total is not None  # the centre tap always reads
        return self.total.to(self.dtype).permute(0, 3, 1, 2)


def _forward(x: Tensor, weight: Tensor, rate: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the output, and the taps ``[K, taps, C]`` in ``dtype``, which the backward pass reads too."""
    maps, taps = x.permute(CHANNELS_LAST).to(dtype), weight.permute(CHANNELS_LAST).flatten(1, 2)
    taps = taps.to(dtype, copy=True, memory_format=torch.contiguous_format)
    n, h, w, _ = maps.shape
    out = _Sum((n, h, w, weight.shape[0]), dtype)
    for tap in _taps(h, w, rate):
        out.add(_pixels(maps, tap.inputs) @ taps[:, tap.place].t(), tap.outputs)
    return out.result(), taps


def _empty(x, weight, rate, dtype):  # type: ignore[no-untyped-def]
    n, _, h, w = x.shape
    k, c, *taps = weight.shape
    y = x.new_empty(n, h, w, k, dtype=dtype).permute(0, 3, 1, 2)
    return y, weight.new_empty(k, taps[0] * taps[1], c, dtype=dtype)


def _backward_pass(
    dy: Tensor, x: Tensor, taps: Tensor, rate: int, with_x: bool, weight_dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return gradients of ``x`` (empty unless asked for) and of the weights ``[K, taps, C]``."""
    maps, maps_dy = x.permute(CHANNELS_LAST).to(dy.dtype), dy.permute(CHANNELS_LAST)
    n, h, w, c = maps.shape
    dx, dtaps = _Sum((n, h, w, c), dy.dtype), torch.empty_like(taps, dtype=weight_dtype)
    alive = list(_taps(h, w, rate))
    for place in set(range(taps.shape[1])) - {tap.place for tap in alive}:
        dtaps[:, place] = 0
    for tap in alive:
        b_dy = _pixels(maps_dy, tap.outputs)
        if with_x:
            dx.add(b_dy @ taps[:, tap.place], tap.inputs)
        dtaps[:, tap.place] = b_dy.t() @ _pixels(maps, tap.inputs)
    return (dx.result().to(x.dtype) if with_x else x.new_empty(0)), dtaps


def _empty_gradients(dy, x, taps, rate, with_x, weight_dtype):  # type: ignore[no-untyped-def]
    n, c, h, w = x.shape
    dx = x.new_empty(n, h, w, c).permute(0, 3, 1, 2) if with_x else x.new_empty(0)
    return dx, torch.empty_like(taps, dtype=weight_dtype)


_gradients = traceable("conv_products_backward", _backward_pass, _empty_gradients)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, weight, ctx.rate, _ = inputs
    ctx.weight_dtype, ctx.taps = weight.dtype, weight.shape[2:]
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, output[1])


def _backward(ctx, dy, _):  # type: ignore[no-untyped-def]
    x, taps = ctx.saved_tensors
    dx, dtaps = _gradients(dy, x, taps, ctx.rate, ctx.needs_input_grad[0], ctx.weight_dtype)
    dweight = dtaps.unflatten(1, ctx.taps).permute(0, 3, 1, 2)  # stored as channels-last weights are
    return dx if ctx.needs_input_grad[0] else None, dweight, None, None


_conv_products = differentiable("conv_products", _forward, _empty, _setup_context, _backward)
