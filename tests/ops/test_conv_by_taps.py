"""conv_by_taps against the library's convolution; what it executes; when it is chosen."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from deeplab_fast.ops import atrous_conv2d
from deeplab_fast.ops.conv.conv_by_taps import conv_by_taps, prefers_taps
from tests.ops.kernels import check_contract, opcheck

pytestmark = pytest.mark.gpu

# (N, C, K, H, W)
SHAPES = {"square": (2, 5, 4, 17, 17), "one pixel": (3, 4, 6, 1, 1), "wide": (1, 3, 8, 2, 40), "high": (2, 3, 2, 30, 9)}


def run(shape, rate, dtype, conv):
    n, c, k, h, w = shape
    generator = torch.Generator().manual_seed(rate)
    x, weight, dy = (torch.randn(*s, generator=generator) for s in ((n, c, h, w), (k, c, 3, 3), (n, k, h, w)))
    low = torch.float32 if dtype == torch.float64 else dtype
    x, dy = (t.to(low).to(dtype).to(memory_format=torch.channels_last) for t in (x, dy))
    weight = weight.to(torch.bfloat16).to(torch.float64 if dtype == torch.float64 else torch.float32)
    leaves = [t.requires_grad_() for t in (x, weight)]
    y = conv(*leaves)
    y.backward(dy)
    return [y.detach(), *(t.grad for t in leaves)]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("rate", [1, 2, 6, 12, 18, 24, 36])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_values_and_gradients(shape, rate, dtype):
    found = run(shape, rate, dtype, lambda x, w: conv_by_taps(x, w, rate, dtype))

    def library(x, w):
        return F.conv2d(x, w.to(x.dtype), None, 1, rate, rate)

    if dtype == torch.float64:
        for actual, expected in zip(found, run(shape, rate, dtype, library), strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
        return
    exact_input = run(shape, rate, dtype, library)  # of the inputs as they are in that type

    def wide(x, w):
        return F.conv2d(x.double(), w.double(), None, 1, rate, rate)

    exact = run(shape, rate, dtype, lambda x, w: wide(x, w).to(torch.float64))
    check_contract(found, exact, exact_input, dtype, [2, 3, 3])
    assert found[2].dtype == torch.float32  # the master weights' gradient


def test_gradients_are_stored_as_channels_last_weights_are():
    weight = torch.randn(4, 5, 3, 3).to(memory_format=torch.channels_last).requires_grad_()
    y = conv_by_taps(torch.randn(1, 5, 6, 6), weight, 4, torch.float32)
    assert y.is_contiguous(memory_format=torch.channels_last)
    y.sum().backward()
    assert weight.grad.stride() == weight.stride()


def test_only_taps_inside_the_map_are_executed():
    x, weight = torch.randn(2, 8, 17, 17, requires_grad=True), torch.randn(4, 8, 3, 3, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        conv_by_taps(x, weight, 12, torch.float32).sum().backward()
    inside = F.conv2d(torch.ones(1, 1, 17, 17), torch.ones(1, 1, 3, 3), None, 1, 12, 12).sum().item()
    assert counter.get_total_flops() == 3 * 2 * 2 * 4 * 8 * inside


@pytest.mark.parametrize("rate", [6, 12])
def test_autocast_decides_the_type(rate):
    """The layer's fp32 weights, a bf16 activation: as F.conv2d under autocast."""
    x = torch.randn(2, 1024, 9, 9).bfloat16().to(memory_format=torch.channels_last).requires_grad_()
    weight = (torch.randn(8, 1024, 3, 3) * 0.01).to(memory_format=torch.channels_last).requires_grad_()
    assert prefers_taps(x, rate, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found = atrous_conv2d(x, weight, (1, 1), (rate, rate))
        expected = F.conv2d(x, weight, None, 1, rate, rate)
    assert found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)
    dy = torch.randn_like(found)
    for a, b in zip(
        torch.autograd.grad(found, (x, weight), dy), torch.autograd.grad(expected, (x, weight), dy), strict=True
    ):
        assert a.dtype == b.dtype
        assert (a.double() - b.double()).norm() <= 0.01 * b.double().norm()


def test_when_it_is_chosen():
    def ahead(c, size, rate, dtype=torch.bfloat16):
        return prefers_taps(torch.empty(1, c, size, size), rate, dtype)

    assert ahead(2048, 17, 6)
    assert ahead(512, 9, 6)  # more than half of the map away
    assert not ahead(512, 17, 4)
    assert not ahead(2048, 33, 2)
    assert ahead(64, 17, 12, torch.float32)
    assert not ahead(2048, 17, 6, torch.float32)
    assert not ahead(64, 1, 6)  # a 1x1 convolution
    assert not prefers_taps(torch.empty(1, 2048, 17, 17, device="meta"), 12, torch.bfloat16)


def test_opcheck():
    x, weight = torch.randn(2, 3, 5, 7, requires_grad=True), torch.randn(4, 3, 3, 3, requires_grad=True)
    opcheck("conv_products", (x, weight, 3, torch.float32))
    opcheck("conv_products", (x, weight, 6, torch.bfloat16))
    dy = torch.randn(2, 4, 5, 7)
    taps = torch.randn(4, 9, 3)
    opcheck("conv_products_backward", (dy, x.detach(), taps, 6, True, torch.float32))
    opcheck("conv_products_backward", (dy, x.detach(), taps, 6, False, torch.float32))


def test_no_graph_break_under_compile():
    gradients = []
    for wrap in (lambda f: torch.compile(f, fullgraph=True, backend="aot_eager"), lambda f: f):
        torch.manual_seed(0)
        x, weight = torch.randn(2, 3, 5, 7, requires_grad=True), torch.randn(4, 3, 3, 3, requires_grad=True)
        wrap(lambda x, w: atrous_conv2d(x * 2, w, (1, 1), (4, 4)).square().sum())(x, weight).backward()
        gradients.append([x.grad, weight.grad])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
