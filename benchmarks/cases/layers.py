"""Convolutions of the network as it runs them, by our kernels and by the library: what ``tune_tiles`` times."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional as F

from deeplab_fast.ops import DeferredNorm, NormConstants, conv_bn, defer_norm
from deeplab_fast.ops.conv import measurements
from deeplab_fast.ops.conv.conv_moments import conv_moments
from deeplab_fast.ops.conv.measurements import ATROUS, CONV1X1, CONV3X3
from deeplab_fast.ops.conv.parallel_convs import as_map, input_gradient, parallel_convs, parallel_convs_reference
from deeplab_fast.ops.conv.triton.schedule import PixelMap
from deeplab_fast.ops.layout import as_rows, empty_pixel_major, pixel_major
from deeplab_fast.ops.norm.batch_norm_stats import batch_norm_stats, merge_stats_and_update_running
from deeplab_fast.ops.triton.tiles import FORWARD, INPUT_GRADIENT, ConvTile

from .kernel import activation, sides

OURS, VENDOR = "ours", "library"
Step = Callable[[], list[Tensor]]
EPS = 1e-5


class Layer(NamedTuple):
    """Convolutions of one input ``[N, c, side, side]``; rate 0 is 1x1.

    ``pending``: it reads what is still to be normalised, as in a bottleneck; then its gradient goes on to that.
    """

    kind: str
    c: int
    k: int
    side: int
    rates: tuple[int, ...]
    pending: bool = False

    def map_(self, images: int) -> PixelMap:
        if any(self.rates):
            return PixelMap(self.side, self.side, images)
        return PixelMap(1, images * self.side**2, 1)

    @property
    def uses(self) -> tuple[str, ...]:
        """Kernels that have a tile of their own: a matrix product's is chosen by its channels."""
        return () if self.is_product else (FORWARD, INPUT_GRADIENT)

    @property
    def is_product(self) -> bool:
        """Tell whether ours is CUTLASS's."""
        return self.kind in (CONV1X1, CONV3X3)


def layers(crop_size: int, small: int = 1) -> Iterator[Layer]:
    """Those of ResNet-101 at output stride 16 with the multi-grid, and its ASPP; channels divided by ``small``."""
    of = sides(crop_size)
    for stage, planes in {"layer1": 64, "layer2": 128, "layer3": 256, "layer4": 512}.items():
        side, p = of[f"{stage} out"][0], planes // small
        yield Layer(CONV1X1, 4 * p, p, side, (0,), pending=True)
        yield Layer(CONV1X1, p, 4 * p, side, (0,), pending=True)
        for rate in {"layer1": (), "layer4": (2, 4, 8)}.get(stage, (1,)):  # layer1 would leave half of a tile empty
            yield Layer(CONV3X3, p, p, side, (rate,), pending=True)
    low = of["layer4 out"][0]
    for rate in (2, 4, 8):
        yield Layer(ATROUS, 512 // small, 512 // small, low, (rate,))
    yield Layer(CONV1X1, 1280 // small, 256 // small, low, (0,))
    yield Layer("aspp", 2048 // small, 256 // small, low, (0, 6, 12, 18))


def both(layer: Layer, n: int, dtype: torch.dtype, device: torch.device) -> dict[str, Step]:
    """Forward, statistics and backward of both; where the layer reads what is pending, with that normalisation."""
    return _bottleneck(layer, n, dtype, device) if layer.pending else _plain(layer, n, dtype, device)


def _weights(layer: Layer, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    return [
        (torch.randn(layer.k, layer.c, *(2 * [3 if r else 1]), device=device) * 0.05)
        .to(dtype, memory_format=torch.channels_last)
        .requires_grad_()
        for r in layer.rates
    ]


def _plain(layer: Layer, n: int, dtype: torch.dtype, device: torch.device) -> dict[str, Step]:
    x = activation((n, layer.c, layer.side, layer.side), dtype, device)
    channels = layer.k * len(layer.rates)
    dy = activation((n, channels, layer.side, layer.side), dtype, device)
    x_ours, dy_ours = (pixel_major(x), pixel_major(dy)) if any(layer.rates) else (x, dy)
    leaves = [t.detach().requires_grad_() for t in (x_ours, x)]
    weights = _weights(layer, dtype, device)
    statistics = torch.zeros(channels, device=device), torch.ones(channels, device=device)

    def ours() -> list[Tensor]:
        if any(layer.rates):
            y, parts = parallel_convs(leaves[0], weights, layer.rates)
        else:
            y, parts = conv_moments(leaves[0], weights[0])
        moments = merge_stats_and_update_running(parts, *statistics, 0.1)
        return [y.detach(), *moments, *torch.autograd.grad(y, [leaves[0], *weights], dy_ours)]

    def library() -> list[Tensor]:
        y = parallel_convs_reference(leaves[1], weights, layer.rates)
        moments = batch_norm_stats(y.detach(), *statistics, 0.1)
        return [y.detach(), *moments, *torch.autograd.grad(y, [leaves[1], *weights], dy)]

    return {OURS: ours, VENDOR: library}


def _bottleneck(layer: Layer, n: int, dtype: torch.dtype, device: torch.device) -> dict[str, Step]:
    """A block's first convolution reads the block before, with a residual and another reader; the others neither."""
    shape = n, layer.c, layer.side, layer.side
    is_first, (rate,) = layer.c > layer.k, layer.rates
    y, dz = (activation(shape, dtype, device) for _ in range(2))
    leaves = {"y": y, "weight": torch.rand(layer.c, device=device) + 0.5, "bias": torch.randn(layer.c, device=device)}
    if is_first:
        leaves["residual"] = activation(shape, dtype, device)
    for leaf in leaves.values():
        leaf.requires_grad_()
    dy = activation((n, layer.k, layer.side, layer.side), dtype, device)
    (weight,) = _weights(layer, dtype, device)
    mean, variance = batch_norm_stats(
        y.detach(), torch.zeros(layer.c, device=device), torch.ones(layer.c, device=device), 0.1
    )
    constants = NormConstants(mean, variance, leaves["weight"], leaves["bias"], EPS)
    before = DeferredNorm(y, constants, batch=True, residual=leaves.get("residual"))
    after = (*(torch.ones(layer.k, device=device), torch.zeros(layer.k, device=device)) * 2,)

    def results(z: Tensor | None, raw: DeferredNorm) -> list[Tensor]:
        outputs = {raw.y: dy} | ({z: dz} if is_first and z is not None else {})
        gradients = torch.autograd.grad(list(outputs), [*leaves.values(), weight], list(outputs.values()))
        return [raw.y.detach(), raw.constants.mean.detach(), raw.constants.variance.detach(), *gradients]

    def ours() -> list[Tensor]:
        return results(*conv_bn(before, weight, *after, eps=EPS, keep=is_first, rate=rate))

    def library() -> list[Tensor]:
        read, z = before.apply_shared() if is_first else (before.apply(),) * 2
        raw = F.conv2d(read, weight, padding=rate, dilation=max(rate, 1))
        return results(z, defer_norm(raw, None, *after, True, 0.1, EPS))

    return {OURS: ours, VENDOR: library}


def kernel(layer: Layer, use: str, n: int, dtype: torch.dtype, device: torch.device) -> Callable[[ConvTile], Any]:
    """One kernel of ours, by a tile."""
    x = activation((n, layer.c, layer.side, layer.side), dtype, device)
    dy = activation((n, layer.k * len(layer.rates), layer.side, layer.side), dtype, device)
    x, dy = pixel_major(x), pixel_major(dy)
    weights = [w.detach() for w in _weights(layer, dtype, device)]
    if use == FORWARD:
        return lambda tile: _with_tile(tile, lambda: parallel_convs(x, weights, layer.rates))
    dx = empty_pixel_major(x, *x.shape)
    map_x, map_ = as_map(dx, layer.rates)
    map_dy = as_rows(dy, dx).view(*map_x.shape[:2], len(weights), -1)
    return lambda tile: _with_tile(tile, lambda: input_gradient(map_dy, map_x, map_, weights, list(layer.rates)))


def _with_tile(tile: ConvTile, work: Callable[[], Any]) -> None:
    with mock.patch.object(measurements, "measured_tile", return_value=tile), torch.no_grad():
        work()


def with_tiles(tiles: Mapping[str, ConvTile], step: Step) -> Step:
    """``step`` by these, of each use."""

    def run() -> list[Tensor]:
        with mock.patch.object(measurements, "measured_tile", lambda use, *_: tiles.get(use)):
            return step()

    return run
