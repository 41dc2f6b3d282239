"""norm_relu_pool: the stem's kernels against fp64, and which pixel of a tie gets the gradient."""

import pytest
import torch

from deeplab_fast.ops import norm_relu_pool
from deeplab_fast.ops.norm.norm_relu_pool import norm_relu_pool_reference
from tests.ops.kernels import DEVICE, DTYPES, check_contract, needs_kernels, opcheck, poisoned

pytestmark = [pytest.mark.gpu, needs_kernels]

# (N, C, H, W): each with the reason it is here
SHAPES = {
    "the stem, small": (2, 64, 17, 17),
    "even sides": (1, 20, 8, 6),
    "one pixel": (3, 20, 1, 1),
    "two columns, more rows than a tile": (1, 3, 35, 2),
    "one row, several tiles of columns": (1, 64, 1, 41),
    "channels no multiple of the tile": (2, 37, 5, 9),
    "several tiles of channels": (1, 130, 3, 3),
}


def inputs(shape, dtype):
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(shape, generator=generator) * 2 + 1).to(dtype)
    weight, bias = (torch.randn(shape[1], generator=generator) for _ in range(2))
    pooled = (shape[0], shape[1], (shape[2] + 1) // 2, (shape[3] + 1) // 2)
    return x, weight, bias, torch.randn(pooled, generator=generator).to(dtype)


def run(x, weight, bias, dy, wide, training):
    fused = wide is None
    device = DEVICE if fused else torch.device("cpu")
    parameter_type = torch.float64 if wide == torch.float64 else torch.float32
    x = x.to(device, wide).detach().requires_grad_()
    weight, bias = (t.to(device, parameter_type).detach().requires_grad_() for t in (weight, bias))
    statistics = [torch.full_like(bias, v).detach() for v in (0.3, 1.7)]
    if fused:
        y = norm_relu_pool(x, weight, bias, *statistics, training=training, fused="on")
    else:
        y = norm_relu_pool_reference(x, weight, bias, *statistics, training, 0.1, 1e-5)
    y.backward(dy.to(y))
    return [y.detach(), x.grad, weight.grad, bias.grad, *statistics]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("training", [True, False])
def test_forward_and_every_gradient(shape, dtype, training):
    case = inputs(shape, dtype)
    with poisoned():
        found = run(*case, None, training)
    exact, plain = (run(*case, wide, training) for wide in (torch.float64, dtype))
    check_contract(found, exact, plain, dtype, [2, 3, 3, 3, 2, 2])


def test_programs_that_visit_several_strips(monkeypatch):
    from deeplab_fast.ops.norm.triton import norm_relu_pool as kernels

    monkeypatch.setattr(kernels, "POOL_PROGRAMS", 3)
    case = inputs((2, 20, 9, 11), torch.float32)
    found, exact = (run(*case, wide, True) for wide in (None, torch.float64))
    check_contract(found, exact, exact, torch.float32, [1] * 6)


def test_of_equal_values_the_first_gets_the_gradient():
    x = torch.zeros(1, 1, 5, 5) + 2.0
    one, zero = torch.ones(1), torch.zeros(1)
    found, expected = (
        run(x, one, zero, torch.arange(1.0, 10).view(1, 1, 3, 3), wide, False)[1] for wide in (None, torch.float32)
    )
    assert torch.equal(found.cpu(), expected)


def test_a_nan_is_not_hidden():
    x = torch.randn(1, 2, 6, 6)
    x[0, 1, 3, 3] = float("nan")
    y = norm_relu_pool(x.to(DEVICE), *(torch.ones(2, device=DEVICE) for _ in range(4)), training=False, fused="on")
    assert y[0, 1, 1:, 1:].isnan()[:2, :2].all()
    assert y.isnan().sum() == 4


def test_opcheck():
    x, weight, bias, _ = (t.to(DEVICE) for t in inputs((1, 5, 4, 5), torch.float32))
    statistics = [torch.zeros(5, device=DEVICE), torch.ones(5, device=DEVICE)]
    arguments = (x.requires_grad_(), *statistics, weight.requires_grad_(), bias, 1e-5, True)
    opcheck("norm_relu_pool", arguments)
    x, weight = x.detach(), weight.detach()
    y, taps = torch.ops.deeplab_fast.norm_relu_pool(x, *statistics, weight, bias, 1e-5, True)
    opcheck("norm_relu_pool_backward", (y, taps, x, *statistics, weight, bias, 1e-5, True))
