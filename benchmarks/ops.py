"""Single operations on the CPU, ours beside torch's, by pytest-benchmark.

``pytest benchmarks/ops.py`` prints a table for each; ``--benchmark-autosave`` and ``--benchmark-compare`` keep it and
hold the next against it. The results are checked against each other first.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from deeplab_fast.ops import atrous_conv2d, extension, folded_conv
from deeplab_fast.ops.conv.atrous_conv import atrous_conv2d_reference
from deeplab_fast.ops.norm.norm_relu import norm_relu_reference

from . import upsample_ce

OURS, TORCH = "ours", "torch"
Results = list[Tensor]
Pair = dict[str, Callable[[], Results]]


def loss_and_gradient() -> Pair:
    logits, labels = upsample_ce.case(2, 33, 513)
    wide, last = labels.long(), logits.permute(0, 2, 3, 1).contiguous()

    def ours() -> Results:
        loss, gradient = upsample_ce.by_us(last, labels)
        return [torch.tensor(loss), gradient.permute(0, 3, 1, 2)]

    def plain() -> Results:
        loss, gradient = upsample_ce.by_torch(logits, wide)
        return [torch.tensor(loss), gradient]

    return {OURS: ours, TORCH: plain}


def convolution_of_rate_12() -> Pair:
    """Forward and backward, of the map that a crop of 257 gives."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 512, 17, 17, generator=generator).to(memory_format=torch.channels_last)
    weight = torch.randn(256, 512, 3, 3, generator=generator) * 0.02
    leaves = [t.requires_grad_() for t in (x, weight)]
    dy = torch.randn(2, 256, 17, 17, generator=generator)

    def by(function: Callable[..., Tensor]) -> Callable[[], Results]:
        def run() -> Results:
            y = function(*leaves, (1, 1), (12, 12))
            return [y.detach(), *torch.autograd.grad(y, leaves, dy)]

        return run

    return {OURS: by(atrous_conv2d), TORCH: by(atrous_conv2d_reference)}


def convolution_norm_relu() -> Pair:
    """In inference; 1x1, of layer1's map at a crop of 257."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 64, 65, 65, generator=generator).to(memory_format=torch.channels_last)
    weight = torch.randn(256, 64, 1, 1, generator=generator) * 0.1
    gamma, beta, mean, variance = (torch.rand(256, generator=generator) + 0.5 for _ in range(4))

    def ours() -> Results:
        return [folded_conv(x, weight, gamma, beta, mean, variance, padding=(0, 0), relu=True)]

    def plain() -> Results:
        y = F.conv2d(x, weight)
        return [norm_relu_reference(y, gamma, beta, mean, variance, None, True, False, 0.1, 1e-5)]

    return {OURS: ours, TORCH: plain}


OPERATIONS = [loss_and_gradient, convolution_of_rate_12, convolution_norm_relu]


@pytest.mark.parametrize("who", [OURS, TORCH])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_operation(operation: Callable[[], Pair], who: str, benchmark: Any) -> None:
    if extension.load()[0] is None:
        pytest.skip(f"needs the extension: {extension.load()[1]}")
    pair = operation()
    with torch.inference_mode() if operation is convolution_norm_relu else torch.enable_grad():
        for ours, plain in zip(pair[OURS](), pair[TORCH](), strict=True):
            if plain.is_floating_point():
                assert float((ours - plain).norm() / plain.norm()) < 1e-5
            else:  # near a tie the roundings may see another class
                assert int((ours - plain).abs().sum()) <= 1e-4 * int(plain.sum())
        benchmark.group = operation.__name__
        benchmark.pedantic(pair[who], rounds=7, warmup_rounds=2)
