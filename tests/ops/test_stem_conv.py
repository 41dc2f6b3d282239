"""The stem's convolution with 2x2 pixels beside each other: in fp64 torch's own, at any size, both gradients too."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deeplab_fast.config import ModelConfig
from deeplab_fast.model import build_model, convolve
from deeplab_fast.model.convolve import stem
from deeplab_fast.model.layers import use_fused
from deeplab_fast.ops.conv.stem_conv import _space_to_depth, folded, space_to_depth_reference, stem_conv, supports
from tests.ops.kernels import DEVICE, DTYPES, needs_kernels, opcheck, poisoned, relative_error

pytestmark = pytest.mark.gpu

# (N, H, W): odd as crops are, of either remainder by 4, even, unequal, smaller than the taps
SIZES = [(1, 33, 33), (2, 35, 17), (1, 129, 65), (2, 32, 34), (1, 7, 5), (3, 1, 1), (1, 2, 9)]


def case(size, dtype=torch.float64):
    n, h, w = size
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, h, w, generator=generator, dtype=torch.float64).to(dtype)
    return x, torch.randn(64, 3, 7, 7, generator=generator, dtype=torch.float64).to(dtype) / 12


@pytest.mark.parametrize("size", SIZES)
def test_equals_the_plain_convolution_in_fp64(size):
    x, weight = case(size)
    found, expected = ([t.clone().requires_grad_() for t in (x, weight)] for _ in range(2))
    y, plain = stem_conv(*found), F.conv2d(*expected, stride=2, padding=3)
    assert y.shape == plain.shape
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y.backward(dy)
    plain.backward(dy)
    torch.testing.assert_close(y, plain, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-12)


def test_the_weights_lie_where_the_pixels_do():
    weight = torch.arange(64 * 3 * 49, dtype=torch.float64).view(64, 3, 7, 7) + 1
    found = folded(weight)
    assert found.shape == (64, 16, 4, 4)
    assert found[5, 6 * 1 + 3 * 0 + 2, 3, 1] == weight[5, 2, 2 * 3 + 1 - 1, 2 * 1 + 0 - 1]
    assert (found[:, 12:] == 0).all()
    assert found.sum() == weight.sum()


@needs_kernels
@pytest.mark.parametrize("size", [*SIZES, (2, 301, 5)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels_last", [True, False])
def test_the_kernel_gives_the_reference_s_bits(size, dtype, channels_last):
    x = case(size, torch.float32)[0].to(DEVICE)
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    with poisoned():
        found = _space_to_depth(x, dtype)
    assert torch.equal(found, space_to_depth_reference(x, dtype))
    assert found.is_contiguous(memory_format=torch.channels_last)


@needs_kernels
def test_opcheck():
    opcheck("space_to_depth", (case((2, 9, 7), torch.float32)[0].to(DEVICE), torch.float16))


def test_under_autocast():
    x, weight = case((2, 33, 33), torch.float32)
    weight.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found, plain = stem_conv(x, weight), F.conv2d(x, weight, stride=2, padding=3)
    assert found.dtype == plain.dtype == torch.bfloat16
    found.float().square().sum().backward()
    assert weight.grad.dtype == torch.float32
    exact = F.conv2d(x.double(), weight.double(), stride=2, padding=3)
    assert relative_error(found, exact) <= 2 * relative_error(plain, exact)


def test_what_it_is_not():
    x, weight = case((1, 9, 9), torch.float32)
    assert supports(x, weight, (2, 2), (3, 3)) is None
    assert "not 7x7" in supports(x, weight, (1, 1), (3, 3))
    assert "not 7x7" in supports(x[:, :2], weight[:, :2], (2, 2), (3, 3))
    with torch.no_grad():
        assert "inference" in supports(x, weight, (2, 2), (3, 3))


@needs_kernels
def test_the_network_s_stem_in_bf16(monkeypatch):
    """As it trains on a GPU: the kernel, the library's convolution and the weights' gradient, under autocast."""
    torch.manual_seed(0)
    conv = build_model(ModelConfig(backbone="resnet18", num_classes=5)).to(DEVICE).backbone.conv1
    x, dy = torch.randn(2, 3, 33, 33, device=DEVICE), torch.randn(2, 64, 17, 17, device=DEVICE)
    calls = []
    monkeypatch.setattr(convolve, "stem_conv", lambda *given: calls.append(1) or stem_conv(*given))
    results = []
    for fused in ("on", "off"):
        with torch.autocast(DEVICE.type, torch.bfloat16):
            y = stem(conv, x, fused)
        results.append((y.detach(), *torch.autograd.grad(y, conv.weight, dy.to(y.dtype))))
    assert calls == [1]
    wide = conv.weight.detach().double().requires_grad_()
    y = F.conv2d(x.double(), wide, stride=2, padding=3)
    exact = (y.detach(), *torch.autograd.grad(y, wide, dy.bfloat16().double()))
    for ours, plain, right in zip(*results, exact, strict=True):
        assert ours.dtype == plain.dtype
        assert relative_error(ours, right) <= 2 * relative_error(plain, right)


@needs_kernels
def test_the_network_s_stem_is_the_same_with_kernels_and_without(monkeypatch):
    model = build_model(ModelConfig(backbone="resnet18", num_classes=5)).to(DEVICE)
    conv = model.backbone.conv1
    assert list(conv.state_dict()) == ["weight"]
    assert conv.weight.shape == (64, 3, 7, 7)
    x = torch.randn(2, 3, 17, 17, device=DEVICE)
    calls = []
    monkeypatch.setattr(convolve, "stem_conv", lambda *given: calls.append(1) or stem_conv(*given))
    gradients = []
    for fused in ("on", "off"):
        use_fused(model, fused)
        y = stem(conv, x, model.backbone.bn1.fused)
        (gradient,) = torch.autograd.grad(y.square().sum(), conv.weight)
        gradients.append(gradient)
    assert relative_error(*gradients) <= 1e-5
    assert bool(calls) == (DEVICE.type == "cpu")  # a GPU's fp32 keeps the plain convolution
    assert isinstance(conv, nn.Conv2d)
