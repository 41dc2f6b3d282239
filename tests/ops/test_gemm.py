"""Matrix products with BatchNorm's share: the kernels on a GPU of theirs, else their references and a stand-in."""

import logging
from unittest import mock

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deeplab_fast.errors import UserError
from deeplab_fast.ops import dispatch
from deeplab_fast.ops.conv import gemm, gemm_check, route
from deeplab_fast.ops.layout import as_rows
from tests.ops.gemm_stand_in import put_in_place
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
    norm = norm_case(rows, c, dtype)
    others = [draw(rows, c, dtype=dtype, seed=7), draw(rows, c, dtype=dtype, seed=8).relu()] if residual else []
    return draw(rows, k, dtype=dtype, seed=9), weight, norm, *others


# Images, height, width, rate, in, out.
MAPS = {
    "one pixel": (1, 1, 1, 1, 8, 8),
    "taps beyond the map": (3, 5, 4, 8, 16, 24),
    "several tiles": (2, 13, 11, 2, 40, 136),
    "layer2": (2, 65, 65, 1, 128, 128),
    "layer3": (2, 33, 33, 1, 256, 256),
    "layer4, rate 2": (2, 33, 33, 2, 512, 512),
    "layer4, rate 4": (2, 33, 33, 4, 512, 512),
    "layer4, rate 8": (32, 33, 33, 8, 512, 512),
}
SMALL_MAPS = list(MAPS)[:3]


def window_case(name, is_pixel_major):
    n, h, w, rate, c, k = MAPS[name]
    a, weight = draw(n * h * w, c, dtype=torch.bfloat16), (draw(k, 3, 3, c, seed=1) / (9 * c) ** 0.5).bfloat16()
    return a, weight, gemm.Window(n, h, w, rate, is_pixel_major)


def window_gradient_case(name, is_pixel_major):
    n, h, w, rate, c, k = MAPS[name]
    rows = n * h * w
    weight = (draw(k, 3, 3, c, seed=1) / (9 * k) ** 0.5).bfloat16()
    return (draw(rows, k, dtype=torch.bfloat16, seed=9), weight, norm_case(rows, c, torch.bfloat16)), gemm.Window(
        n, h, w, rate, is_pixel_major
    )


def norm_case(rows, c, dtype):
    mean, variance, weight, bias = (draw(c, seed=seed) for seed in (2, 3, 4, 5))
    return gemm.NormInput(draw(rows, c, dtype=dtype, seed=6), mean, variance.abs() + 0.5, weight, bias, 1e-5)


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


@pytest.mark.parametrize("name", MAPS if ON_GPU else SMALL_MAPS)
@pytest.mark.parametrize("is_pixel_major", [False, True])
def test_a_3x3_convolution_and_its_moments(name, is_pixel_major):
    a, weight, window = window_case(name, is_pixel_major)
    with poisoned():
        y, parts = gemm.product(a, weight, window)
    where = {"padding": window.rate, "dilation": window.rate}
    exact, plain = (
        rows_of(F.conv2d(window.map(a.to(wide)), weight.to(wide).permute(0, 3, 1, 2), **where), window)
        for wide in (torch.float64, torch.bfloat16)
    )
    check_contract([y], [exact], [plain], torch.bfloat16, [2])
    count, mean, variance = merged(parts)
    assert (count == len(a)).all()
    stored = y.double()
    torch.testing.assert_close(mean, stored.mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(variance, stored.var(0, correction=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", MAPS if ON_GPU else SMALL_MAPS)
@pytest.mark.parametrize("is_pixel_major", [False, True])
def test_the_gradient_before_a_3x3_convolution(name, is_pixel_major):
    given, window = window_gradient_case(name, is_pixel_major)
    with poisoned():
        dz, parts = gemm.norm_gradient(*given, window=window)
    exact, exact_parts = gemm.norm_gradient_reference(*widened(given), window=window)
    plain, plain_parts = gemm.norm_gradient_reference(*given, window=window)
    sums, exact_sums, plain_sums = (p.double().sum(0) for p in (parts, exact_parts, plain_parts))
    dtype = torch.bfloat16
    check_contract([dz, sums.to(dtype)], [exact, exact_sums], [plain, plain_sums], dtype, [3, 3])


@pytest.mark.parametrize("is_pixel_major", [False, True])
def test_references_of_a_3x3_convolution_are_autograd_s(is_pixel_major):
    """The gradient by flipped taps, and that of the weights, of what torch differentiates."""
    n, h, w, rate, c, k = MAPS["several tiles"]
    window = gemm.Window(n, h, w, rate, is_pixel_major)
    x, weight = draw(n * h * w, c).double().requires_grad_(), draw(k, 3, 3, c, seed=1).double().requires_grad_()
    norm = gemm.NormInput(x, *(t.double() for t in norm_case(n * h * w, c, torch.float32)[1:5]), 1e-5)
    before = norm.x_hat() * norm.weight + norm.bias
    before.retain_grad()
    z = before.relu()
    y = F.conv2d(window.map(z), weight.permute(0, 3, 1, 2), padding=rate, dilation=rate)
    dy = draw(n * h * w, k, seed=9).double()
    y.backward(window.map(dy))
    with torch.no_grad():
        dz, _ = gemm.norm_gradient_reference(dy, weight, norm, window=window)
        dweight = gemm.weight_gradient(dy, z, window)
    torch.testing.assert_close(dz, before.grad)
    torch.testing.assert_close(dweight, weight.grad)


def rows_of(map_, window):
    return as_rows(map_, window.map(map_.new_empty(map_.numel() // map_.shape[1], 1)))


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
    given = window_case("several tiles", True)
    assert all(map(torch.equal, gemm.product(*given), gemm.product(*given)))
    a, weight = product_case("ragged rows and channels", torch.bfloat16)
    assert all(torch.equal(x, y) for x, y in zip(gemm.product(a, weight), gemm.product(a, weight), strict=True))
    given = gradient_case("ragged rows and channels", torch.bfloat16, True)
    first, second = gemm.norm_gradient(*given), gemm.norm_gradient(*given)
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


# ---------------------------------------------------------------- what decides, prepares and falls back


@pytest.mark.skipif(ON_GPU, reason="a GPU runs the kernels")
def test_what_the_extension_is_given(monkeypatch):
    put_in_place(monkeypatch)
    given = product_case("ragged rows and channels", torch.bfloat16)
    assert all(map(torch.equal, gemm.product(*given), gemm.product_reference(*given)))
    for residual in (False, True):
        given = gradient_case("ragged rows and channels", torch.float16, residual)
        assert all(map(torch.equal, gemm.norm_gradient(*given), gemm.norm_gradient_reference(*given)))
    for order in (False, True):
        given = window_case("several tiles", order)
        assert all(map(torch.equal, gemm.product(*given), gemm.product_reference(*given)))
        given, window = window_gradient_case("several tiles", order)
        found, expected = (f(*given, window=window) for f in (gemm.norm_gradient, gemm.norm_gradient_reference))
        assert all(map(torch.equal, found, expected))


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
    assert gemm.supports(on_a_gpu(), 64, rate=15) is None
    assert "the rate 16; expected bf16 and at most 15" in gemm.supports(on_a_gpu(), 64, rate=16)
    assert "float16 and the rate 1; expected bf16" in gemm.supports(on_a_gpu(torch.float16), 64, rate=1)
    assert gemm.supports(torch.zeros(1, 21, 3, 3), 5) is None  # a CPU's references take all


def test_a_build_without_them_says_why(monkeypatch):
    monkeypatch.setattr(gemm.extension, "gemm", lambda: (None, "nvcc was not found"))
    gemm.missing.__wrapped__.cache_clear()
    try:
        assert "products for BatchNorm are missing: nvcc was not found" in gemm.supports(on_a_gpu(), 64)
    finally:
        gemm.missing.__wrapped__.cache_clear()


def test_torch_compile_takes_what_decides_for_a_constant(monkeypatch):
    monkeypatch.setattr(gemm.extension, "gemm", lambda: (None, "nvcc was not found"))
    gemm.missing.__wrapped__.cache_clear()
    device = torch.device("cuda", 0)

    def step(x):
        return x + 1 if gemm.missing(device) and gemm_check.disagreement(x.device, "1x1") is None else x - 1

    try:
        assert torch.compile(step, fullgraph=True, backend="eager")(torch.zeros(2)).tolist() == [1, 1]
    finally:
        gemm.missing.__wrapped__.cache_clear()


@pytest.mark.parametrize("fused", ["auto", "on"])
def test_without_them_the_library_serves(fused, monkeypatch, caplog):
    monkeypatch.setattr(gemm, "missing", lambda device: "they are of another GPU")
    dispatch._told.clear()
    with caplog.at_level(logging.INFO, "deeplab_fast"):
        assert not route.runs_product_1x1(nn.Conv2d(64, 64, 1, bias=False), on_a_gpu(), fused)
    assert "conv1x1_bn runs unfused: they are of another GPU" in caplog.text


@pytest.mark.parametrize(
    ("measured", "disagreement", "runs"),
    [(None, None, True), ("not measured on this GPU", None, False), (None, "the sums are 0.5 off", False)],
)
def test_a_3x3_convolution_runs_where_it_is_ahead_and_right(measured, disagreement, runs, monkeypatch, caplog):
    asked = []
    monkeypatch.setattr(gemm, "missing", lambda device: None)
    monkeypatch.setattr(route, "reason_for_library", lambda *_: measured)
    monkeypatch.setattr(gemm_check, "disagreement", lambda device, kind: asked.append(kind) or disagreement)
    dispatch._told.clear()
    conv = nn.Conv2d(64, 64, 3, padding=2, dilation=2, bias=False)
    with caplog.at_level(logging.INFO, "deeplab_fast"):
        assert route.runs_product_3x3(conv, on_a_gpu(), "auto") == runs
    assert asked == ([] if measured else ["3x3"])  # a process of its own, where it matters alone
    assert caplog.text.count("conv3x3_bn runs unfused: the sums are 0.5 off") == bool(disagreement)
    assert not route.runs_product_3x3(conv, on_a_gpu(), "off")
    assert not route.runs_product_3x3(conv, torch.zeros(1, 64, 5, 5), "auto")


def test_one_that_disagrees_is_left_out_or_raises(monkeypatch, caplog):
    monkeypatch.setattr(gemm, "missing", lambda device: None)
    monkeypatch.setattr(gemm_check, "disagreement", lambda device, kind: "the sums are 0.5 off")
    monkeypatch.setattr(dispatch, "missing", lambda device: None)
    monkeypatch.setattr(dispatch, "INTERPRETED", False)
    dispatch._told.clear()
    conv = nn.Conv2d(64, 64, 1, bias=False)
    with caplog.at_level(logging.INFO, "deeplab_fast"):
        assert not route.runs_product_1x1(conv, on_a_gpu(), "auto")
    assert "the sums are 0.5 off" in caplog.text
    with pytest.raises(UserError, match=r"--fused=on: conv1x1_bn cannot run fused: the sums are 0\.5 off"):
        route.runs_product_1x1(conv, on_a_gpu(), "on")
