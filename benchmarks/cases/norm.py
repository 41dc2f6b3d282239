"""Normalisations: the whole op, and each of its passes against the bandwidth of a copy."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from deeplab_fast.ops import norm_relu, norm_relu_pool
from deeplab_fast.ops.norm.norm_relu import norm_relu_reference
from deeplab_fast.ops.norm.norm_relu_pool import norm_relu_pool_reference
from deeplab_fast.ops.triton.launch import record_launches

from .kernel import OURS, Case, KernelsConfig, activation, gradients, widen, with_compiled


def norm_cases(
    config: KernelsConfig, device: torch.device, dtype: torch.dtype, layer: str, side: int, channels: int
) -> Iterator[Case]:
    """The whole of it, and each pass on its own against the bandwidth of a copy."""
    from deeplab_fast.ops.norm.triton import batch_norm_stats as batch_moments
    from deeplab_fast.ops.norm.triton import norm_relu as kernels

    shape = (config.batch_size, channels, side, side)
    x, extra, dy = (activation(shape, dtype, device) for _ in range(3))
    weight, bias = (torch.randn(channels, device=device) for _ in range(2))
    residual = extra if layer.endswith("out") else None
    inputs = [t.requires_grad_() for t in (x, weight, bias, residual) if t is not None]
    statistics = torch.zeros(channels, device=device), torch.ones(channels, device=device)

    def ours() -> list[Tensor]:
        return gradients(norm_relu(x, weight, bias, *statistics, residual=residual, fused="on"), inputs, dy)

    def plain() -> list[Tensor]:
        return gradients(norm_relu_reference(x, weight, bias, *statistics, residual, True, True, 0.1, 1e-5), inputs, dy)

    def exact() -> list[Tensor]:
        leaves = [widen(t) for t in inputs]
        mean, variance = torch.zeros_like(leaves[1]).detach(), torch.ones_like(leaves[1]).detach()
        added = leaves[3] if residual is not None else None
        y = norm_relu_reference(leaves[0], leaves[1], leaves[2], mean, variance, added, True, True, 0.1, 1e-5)
        return gradients(y, leaves, dy.double())

    yield Case(f"norm_relu, {layer}, forward and backward", with_compiled(config, ours, plain), exact)

    b_x, b_extra, b_dy = (t.detach().permute(0, 2, 3, 1).flatten(0, 2) for t in (x, extra, dy))
    vectors = (*statistics, weight.detach(), bias.detach())
    y, dx, dz = (torch.empty_like(b_x) for _ in range(3))
    added, mask, out = (t if residual is not None else None for t in (b_extra, y, dz))
    sums = vectors[0], vectors[1]
    passes: dict[str, Callable[[], Any]] = {
        "statistics": lambda: batch_moments.partial_moments(b_x),
        "normalise": lambda: kernels.norm_relu(b_x, added, *vectors, 1e-5, True, y),
        "sums": lambda: kernels.norm_relu_sums(b_dy, b_x, mask, *vectors, 1e-5, True),
        "gradient": lambda: kernels.norm_relu_backward(
            b_dy, b_x, mask, *vectors, 1e-5, True, sums, float(b_x.shape[0]), dx, out
        ),
    }
    for name, work in passes.items():
        with record_launches() as made:
            work()
        yield Case(f"norm_relu, {layer}, {name}", {OURS: work}, launches=made[:1])


def pool_case(config: KernelsConfig, device: torch.device, dtype: torch.dtype) -> Case:
    side, channels = (config.crop_size + 1) // 2, 4 if config.dry_run else 64
    x = activation((config.batch_size, channels, side, side), dtype, device).requires_grad_()
    dy = activation((config.batch_size, channels, (side + 1) // 2, (side + 1) // 2), dtype, device)
    weight, bias = (torch.randn(channels, device=device).requires_grad_() for _ in range(2))
    statistics = torch.zeros(channels, device=device), torch.ones(channels, device=device)

    def ours() -> list[Tensor]:
        return gradients(norm_relu_pool(x, weight, bias, *statistics, fused="on"), [x, weight, bias], dy)

    def plain() -> list[Tensor]:
        y = norm_relu_pool_reference(x, weight, bias, *statistics, True, 0.1, 1e-5)
        return gradients(y, [x, weight, bias], dy)

    def exact() -> list[Tensor]:
        leaves = [widen(t) for t in (x, weight, bias)]
        mean, variance = (torch.zeros_like(leaves[1]).detach() for _ in range(2))
        y = norm_relu_pool_reference(leaves[0], leaves[1], leaves[2], mean, variance, True, 0.1, 1e-5)
        return gradients(y, leaves, dy.double())

    return Case("norm_relu_pool, stem, forward and backward", with_compiled(config, ours, plain), exact)
