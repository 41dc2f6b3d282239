"""Convolutions with their normalisations, forward and backward, beside the library's and torch's."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from deeplab_fast.ops import NormParams, aspp, atrous_conv_bn_relu, conv_bn, defer_norm
from deeplab_fast.ops.layout import pixel_major

from .kernel import Case, KernelsConfig, activation, gradients, sides, widen, with_compiled

Function = Callable[[Sequence[Tensor]], Tensor]
MOMENTUM, EPS = 0.1, 1e-5


def weight(out: int, c: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Of a convolution, so that its output is as large as its input."""
    values = torch.randn(out, c, size, size, device=device).mul_((c * size * size) ** -0.5)
    return values.to(dtype, memory_format=torch.channels_last)


def norm_of(channels: int, like: Tensor) -> NormParams:
    """Fresh running statistics, of fp64 where the rest is."""
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    zeros, ones = (f(channels, dtype=dtype, device=like.device) for f in (torch.zeros, torch.ones))
    return NormParams(ones.clone(), zeros, zeros.clone(), ones)


def plain_norm(x: Tensor, norm: NormParams, scale: Tensor | None = None) -> Tensor:
    scale = norm.weight if scale is None else scale
    return F.batch_norm(x, norm.running_mean, norm.running_var, scale, norm.bias, True, MOMENTUM, EPS)


def case(
    name: str, config: KernelsConfig, ours: Function, plain: Function, inputs: list[Tensor], dy: Tensor, stored: bool
) -> Case:
    """``ours`` and ``plain`` of the same inputs; ``stored``: ours takes the first, and the gradient, pixel-major."""
    layout = pixel_major if stored else (lambda t: t)
    mine = [layout(inputs[0]), *inputs[1:]]
    both = [[t.detach().requires_grad_() for t in group] for group in (mine, inputs)]
    dy_ours = layout(dy)
    return Case(
        name,
        with_compiled(
            config, lambda: gradients(ours(both[0]), both[0], dy_ours), lambda: gradients(plain(both[1]), both[1], dy)
        ),
        lambda: gradients(plain(leaves := [widen(t) for t in inputs]), leaves, dy.double()),
    )


def pointwise_case(
    config: KernelsConfig, device: torch.device, dtype: torch.dtype, layer: str, c: int, k: int, side: int
) -> Case:
    """``relu(norm(conv1x1(relu(norm(x) + residual))))``; a residual where the convolution narrows, as in a block."""
    n, has_residual = config.batch_size, c > k
    x, extra = (activation((n, c, side, side), dtype, device) for _ in range(2))
    dy = activation((n, k, side, side), dtype, device)
    scale = torch.rand(k, device=device) + 0.5
    inputs = [x, weight(k, c, 1, dtype, device), scale, *([extra] if has_residual else [])]
    before, after = norm_of(c, x), norm_of(k, x)

    def ours(leaves: Sequence[Tensor]) -> Tensor:
        first = defer_norm(leaves[0], None, *before, True, MOMENTUM, EPS)
        if has_residual:
            first = replace(first, residual=leaves[3])
        _, second = conv_bn(first, leaves[1], leaves[2], *after[1:], keep=has_residual)
        return second.apply()

    def plain(leaves: Sequence[Tensor]) -> Tensor:
        z = plain_norm(leaves[0], norm_of(c, leaves[0]))
        z = (z + leaves[3] if has_residual else z).relu()
        return plain_norm(F.conv2d(z, leaves[1]), norm_of(k, leaves[0]), leaves[2]).relu()

    name = f"conv1x1_bn, {layer}, {c} -> {k}, {side}x{side}, forward and backward"
    return case(name, config, ours, plain, inputs, dy, False)


def atrous_case(
    config: KernelsConfig, device: torch.device, dtype: torch.dtype, layer: str, c: int, k: int, side: int, rate: int
) -> Case:
    x, dy = (activation((config.batch_size, channels, side, side), dtype, device) for channels in (c, k))
    inputs = [x, weight(k, c, 3, dtype, device), torch.rand(k, device=device) + 0.5]
    norm = norm_of(k, x)

    def ours(leaves: Sequence[Tensor]) -> Tensor:
        x, w, scale = leaves
        return atrous_conv_bn_relu(x, w, scale, *norm[1:], rate=rate, fused="on")

    def plain(leaves: Sequence[Tensor]) -> Tensor:
        y = F.conv2d(leaves[0], leaves[1], None, 1, rate, rate)
        return plain_norm(y, norm_of(k, leaves[0]), leaves[2]).relu()

    name = f"atrous_conv_bn_relu, {layer}, {c} -> {k}, {side}x{side}, rate {rate}, forward and backward"
    return case(name, config, ours, plain, inputs, dy, True)


def aspp_case(
    config: KernelsConfig, device: torch.device, dtype: torch.dtype, c: int, k: int, side: int, rates: tuple[int, ...]
) -> Case:
    n, every = config.batch_size, (0, *rates)
    x, dy = (activation((n, channels, side, side), dtype, device) for channels in (c, (len(every) + 1) * k))
    weights = [weight(k, c, 3 if rate else 1, dtype, device) for rate in every]
    inputs = [x, *weights, weight(k, c, 1, dtype, device)]
    norms = [norm_of(k, x) for _ in range(len(every) + 1)]

    def ours(leaves: Sequence[Tensor]) -> Tensor:
        return aspp(leaves[0], leaves[1:-1], every, norms[:-1], leaves[-1], norms[-1], fused="on")

    def plain(leaves: Sequence[Tensor]) -> Tensor:
        x, *kernels, pool = leaves
        parts = [F.conv2d(x, w, None, 1, r, max(r, 1)) for w, r in zip(kernels, every, strict=True)]
        parts = [plain_norm(part, norm_of(k, x)).relu() for part in parts]
        pooled = plain_norm(F.conv2d(F.adaptive_avg_pool2d(x, 1), pool), norm_of(k, x)).relu()
        return torch.cat([*parts, pooled.expand(-1, -1, side, side)], 1)

    name = f"aspp, {c} -> {len(every) + 1} x {k}, {side}x{side}, rates {rates}, forward and backward"
    return case(name, config, ours, plain, inputs, dy, True)


def conv_cases(config: KernelsConfig, device: torch.device, dtype: torch.dtype) -> Iterator[Case]:
    """The convolutions of ResNet-101 at output stride 16 with the multi-grid, and its ASPP; ASPP first."""
    small = 16 if config.dry_run else 1
    of = sides(config.crop_size)
    low = of["layer4 out"][0]
    given = config, device, dtype
    yield aspp_case(*given, 2048 // small, 256 // small, low, (6, 12, 18))
    for rate in (2, 4, 8):
        yield atrous_case(*given, "layer4", 512 // small, 512 // small, low, rate)
    for rate in (6, 12, 18):
        yield atrous_case(*given, "ASPP", 2048 // small, 256 // small, low, rate)
    if not config.dry_run:
        yield atrous_case(*given, "layer3", 256, 256, low, 1)
    for stage, planes in {"layer1": 64, "layer2": 128, "layer3": 256, "layer4": 512}.items():
        side, p = of[f"{stage} out"][0], max(planes // small, 8)
        yield pointwise_case(*given, stage, p, 4 * p, side)
        yield pointwise_case(*given, stage, 4 * p, p, side)
    yield pointwise_case(*given, "ASPP's projection", 1280 // small, 256 // small, low)
