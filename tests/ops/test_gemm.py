"""Matrix products with BatchNorm's share: the kernels on a GPU of theirs, else their references and a stand-in."""

import ctypes
import logging
import re
from unittest import mock

import pytest
import torch
from torch import nn

from deeplab_fast.errors import UserError
from deeplab_fast.model.layers import runs_fused
from deeplab_fast.ops import choice, gemm
from tests.ops.kernels import DEVICE, check_contract, poisoned

pytestmark = pytest.mark.gpu

ON_GPU = DEVICE.type == "cuda" and gemm.missing(DEVICE) is None
WHERE = DEVICE if ON_GPU else torch.device("cpu")
TYPES = [torch.float16, torch.bfloat16]

# rows, in, out. Of the network: ResNet-101's at output stride 16, a batch of 2, and its ragged ends.
SHAPES = {
    "one row": (1, 8, 8),
    "less than a tile": (77, 64, 24),
    "ragged rows and channels": (300, 72, 136),
    "the last tile has one row": (257, 136, 200),
    "layer1, narrowing": (33282, 256, 64),
    "layer1, widening": (33282, 64, 256),
    "layer2, narrowing": (8450, 512, 128),
    "layer2, widening": (8450, 128, 512),
    "layer3, narrowing": (2178, 1024, 256),
    "layer3, widening": (2178, 256, 1024),
    "layer4, narrowing": (2178, 2048, 512),
    "layer4, widening": (2178, 512, 2048),
}
SMALL = [name for name, (rows, c, k) in SHAPES.items() if rows * c * k < 1 << 24]


def draw(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype).to(WHERE)


def product_case(name, dtype):
    rows, c, k = SHAPES[name]
    return draw(rows, c, dtype=dtype), (draw(k, c, seed=1) / c**0.5).to(dtype)


def gradient_case(name, dtype, residual):
    rows, c, k = SHAPES[name]
    weight = (draw(k, c, seed=1) / k**0.5).to(dtype)
    vectors = [draw(c, seed=seed) for seed in (2, 3, 4, 5)]
    norm = gemm.NormInput(
        draw(rows, c, dtype=dtype, seed=6), vectors[0], vectors[1].abs() + 0.5, vectors[2], vectors[3], 1e-5
    )
    others = [draw(rows, c, dtype=dtype, seed=7), draw(rows, c, dtype=dtype, seed=8).relu()] if residual else []
    return draw(rows, k, dtype=dtype, seed=9), weight, norm, *others


def widened(given):
    """In fp64."""
    if isinstance(given, torch.Tensor):
        return given.double()
    if isinstance(given, gemm.NormInput):
        return gemm.NormInput(*(t.double() for t in given[:5]), given.eps)
    return tuple(widened(one) for one in given)


def merged(parts):
    """Count, mean and variance, fp64."""
    count, mean, m2 = parts.double().unbind(1)
    total = count.sum(0)
    middle = (count * mean).sum(0) / total
    return total, middle, (m2 + count * (mean - middle) ** 2).sum(0) / total


@pytest.mark.parametrize("name", SHAPES if ON_GPU else SMALL)
@pytest.mark.parametrize("dtype", TYPES)
def test_a_product_and_its_moments(name, dtype):
    a, weight = product_case(name, dtype)
    with poisoned():
        y, parts = gemm.product(a, weight)
    check_contract([y], [a.double() @ weight.double().t()], [a @ weight.t()], dtype, [2])
    count, mean, variance = merged(parts)
    assert torch.equal(parts[:, 0].sum(0), torch.full_like(parts[0, 0], len(a)))
    assert (count == len(a)).all()
    stored = y.double()
    torch.testing.assert_close(mean, stored.mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(variance, stored.var(0, correction=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SHAPES if ON_GPU else SMALL)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("residual", [False, True])
def test_the_gradient_of_the_normalisation_before(name, dtype, residual):
    given = gradient_case(name, dtype, residual)
    with poisoned():
        dz, parts = gemm.norm_gradient(*given)
    exact, exact_parts = gemm.norm_gradient_reference(*widened(given))
    plain, plain_parts = gemm.norm_gradient_reference(*given)
    sums, exact_sums, plain_sums = (p.double().sum(0) for p in (parts, exact_parts, plain_parts))
    check_contract([dz, sums.to(dtype)], [exact, exact_sums], [plain, plain_sums], dtype, [3, 3])


def test_moments_of_a_large_mean():
    """Values of 1e4 with a deviation of a few units of their last place: of plain sums of squares nothing is left."""
    rows, k = 700, 64
    a, weight = torch.zeros(rows, 8), torch.zeros(k, 8)
    a[:, 0], weight[:, 0] = 100.0, 100.0
    a[:, 1], weight[:, 1] = torch.randn(rows, generator=torch.Generator().manual_seed(0)), 16.0
    y, parts = gemm.product(a.half().to(WHERE), weight.half().to(WHERE))
    stored = y.double()
    _, mean, variance = merged(parts)
    torch.testing.assert_close(mean, stored.mean(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(variance, stored.var(0, correction=0), rtol=1e-5, atol=0)


def test_the_same_bits_twice():
    a, weight = product_case("ragged rows and channels", torch.bfloat16)
    assert all(torch.equal(x, y) for x, y in zip(gemm.product(a, weight), gemm.product(a, weight), strict=True))
    given = gradient_case("ragged rows and channels", torch.bfloat16, True)
    first, second = gemm.norm_gradient(*given), gemm.norm_gradient(*given)
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


# ---------------------------------------------------------------- what decides, prepares and falls back


class StandIn:
    """The extension's products on host memory: what the addresses and sizes say, by the references."""

    def at(self, address, type_, *shape):
        dtype, count = getattr(torch, type_), 1
        for size in shape:
            count *= size
        memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(address)
        return torch.frombuffer(memory, dtype=dtype).view(shape)

    def conv1x1_cuda(self, type_, a, weight, y, parts, rows, channels_in, channels_out, stream):
        found = gemm.product_reference(
            self.at(a, type_, rows, channels_in), self.at(weight, type_, channels_out, channels_in)
        )
        self.at(y, type_, rows, channels_out).copy_(found[0])
        self.at(parts, "float32", gemm.parts_of(rows), 3, channels_out).copy_(found[1])

    def conv1x1_gradient_cuda(
        self, type_, dy, weight, x, norm, eps, added, activation, dz, parts, rows, channels_in, channels_out, stream
    ):
        vectors = [self.at(address, "float32", channels_in) for address in norm]
        others = [self.at(address, type_, rows, channels_in) for address in (added, activation) if address]
        found = gemm.norm_gradient_reference(
            self.at(dy, type_, rows, channels_out),
            self.at(weight, type_, channels_out, channels_in),
            gemm.NormInput(self.at(x, type_, rows, channels_in), *vectors, eps),
            *others,
        )
        self.at(dz, type_, rows, channels_in).copy_(found[0])
        self.at(parts, "float32", gemm.parts_of(rows), 2, channels_in).copy_(found[1])

    def gemm_missing(self):
        return ""


@pytest.fixture
def stand_in(monkeypatch):
    module = StandIn()
    monkeypatch.setattr(gemm, "_is_native", lambda t: True)
    monkeypatch.setattr(gemm, "_stream", lambda device: 0)
    monkeypatch.setattr(gemm._native, "gemm", lambda: (module, ""))
    return module


CPU = torch.device("cpu")


@pytest.mark.skipif(ON_GPU, reason="a GPU runs the kernels")
def test_what_the_extension_is_given(stand_in):
    a, weight = product_case("ragged rows and channels", torch.bfloat16)
    for found, expected in zip(gemm.product(a, weight), gemm.product_reference(a, weight), strict=True):
        assert torch.equal(found, expected)
    for residual in (False, True):
        given = gradient_case("ragged rows and channels", torch.float16, residual)
        for found, expected in zip(gemm.norm_gradient(*given), gemm.norm_gradient_reference(*given), strict=True):
            assert torch.equal(found, expected)


def test_kernels_that_agree(stand_in):
    assert gemm.compared(CPU) is None


@pytest.mark.parametrize(
    ("kernel", "change", "message"),
    [
        ("conv1x1_cuda", lambda y, parts: y[-1].zero_(), "a product of torch.float16: the result is .* off"),
        ("conv1x1_cuda", lambda y, parts: parts[0, 1].mul_(1.1), "a product of torch.float16: sum 1 of its parts"),
        ("conv1x1_cuda", lambda y, parts: parts[-1, 0].add_(1), "a product of torch.float16: sum 0 of its parts"),
        ("conv1x1_cuda", lambda y, parts: parts[1, 2, 3:].zero_(), "a product of torch.float16: sum 2 of its parts"),
        ("conv1x1_cuda", lambda y, parts: y[0, 0].fill_(float("nan")), "a product of torch.float16: the result is nan"),
        ("conv1x1_gradient_cuda", lambda dz, parts: parts[-1].zero_(), "a gradient of torch.float16: sum 0 of"),
    ],
)
def test_kernels_that_do_not_agree(stand_in, monkeypatch, kernel, change, message):
    right = getattr(stand_in, kernel)

    def wrong(type_, *given):
        right(type_, *given)
        if kernel == "conv1x1_cuda":
            _, _, y, parts, rows, _, k, _ = given
            change(stand_in.at(y, type_, rows, k), stand_in.at(parts, "float32", gemm.parts_of(rows), 3, k))
        else:
            dz, parts, rows, c = given[-6:-2]
            change(stand_in.at(dz, type_, rows, c), stand_in.at(parts, "float32", gemm.parts_of(rows), 2, c))

    monkeypatch.setattr(stand_in, kernel, wrong)
    assert re.match(message, gemm.compared(CPU) or "")


def on_a_gpu(dtype=torch.bfloat16, channels=64):
    """What decisions see of a tensor on a GPU."""
    x = mock.MagicMock(
        spec=torch.Tensor, device=torch.device("cuda"), dtype=dtype, shape=torch.Size((2, channels, 5, 5))
    )
    x.numel.return_value = 50 * channels
    return x


def test_what_is_not_supported(monkeypatch):
    monkeypatch.setattr(gemm, "missing", lambda device: None)
    assert gemm.supports(on_a_gpu(), 64) is None
    assert "float32; expected fp16 or bf16" in gemm.supports(on_a_gpu(torch.float32), 64)
    assert "20 channels; expected a multiple of 8" in gemm.supports(on_a_gpu(channels=20), 64)
    assert "21 channels; expected a multiple of 8" in gemm.supports(on_a_gpu(), 21)
    assert gemm.supports(torch.zeros(1, 21, 3, 3), 5) is None  # a CPU's references take all


def test_a_build_without_them_says_why(monkeypatch):
    monkeypatch.setattr(gemm._native, "gemm", lambda: (None, "nvcc was not found"))
    gemm.missing.cache_clear()
    try:
        assert "products for BatchNorm are missing: nvcc was not found" in gemm.supports(on_a_gpu(), 64)
    finally:
        gemm.missing.cache_clear()


@pytest.mark.parametrize("fused", ["auto", "on"])
def test_without_them_the_library_serves(fused, monkeypatch, caplog):
    monkeypatch.setattr(gemm, "missing", lambda device: "they are of another GPU")
    choice._told.clear()
    with caplog.at_level(logging.INFO, "deeplab_fast"):
        assert not runs_fused("conv1x1_bn", nn.Conv2d(64, 64, 1, bias=False), on_a_gpu(), fused)
    assert "conv1x1_bn runs unfused: they are of another GPU" in caplog.text


def test_one_that_disagrees_is_left_out_or_raises(monkeypatch, caplog):
    monkeypatch.setattr(gemm, "missing", lambda device: None)
    monkeypatch.setattr(gemm, "disagreement", lambda device: "the sums are 0.5 off")
    monkeypatch.setattr(choice, "missing", lambda device: None)
    monkeypatch.setattr(choice, "INTERPRETED", False)
    choice._told.clear()
    conv = nn.Conv2d(64, 64, 1, bias=False)
    with caplog.at_level(logging.INFO, "deeplab_fast"):
        assert not runs_fused("conv1x1_bn", conv, on_a_gpu(), "auto")
    assert "the sums are 0.5 off" in caplog.text
    with pytest.raises(UserError, match=r"--fused=on: conv1x1_bn cannot run fused: the sums are 0\.5 off"):
        runs_fused("conv1x1_bn", conv, on_a_gpu(), "on")
