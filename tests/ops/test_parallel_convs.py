"""parallel_convs, which the fused ops are made of, against fp64, over maps, rates, batches and branches."""

import pytest
import torch

from deeplab_fast.ops.conv.parallel_convs import (
    parallel_convs,
    parallel_convs_reference,
    parallel_convs_scaled,
    supports,
)
from deeplab_fast.ops.conv.triton import conv as kernels
from deeplab_fast.ops.layout import is_pixel_major, pixel_major
from deeplab_fast.ops.triton import device_info
from deeplab_fast.ops.triton.tiles import CONV
from tests.ops.kernels import DEVICE, DTYPES, check_contract, needs_kernels, opcheck, poisoned, relative_error

pytestmark = [pytest.mark.gpu, needs_kernels]

# (N, C, K, H, W, rates): each with the reason it is here
CASES = {
    "one pixel, the rate beyond the map": (1, 16, 16, 1, 1, (6,)),
    "rate 1, batch of three, channels no multiple of a tile": (3, 24, 40, 7, 9, (1,)),
    "rate 2, one row": (2, 8, 72, 1, 11, (2,)),
    "rate 4, one column, batch of 32": (32, 16, 8, 9, 1, (4,)),
    "rate 6, several blocks of channels": (2, 136, 136, 9, 9, (6,)),
    "rate 8, wide map": (1, 16, 16, 5, 65, (8,)),
    "rate 18, high map": (2, 8, 16, 37, 3, (18,)),
    "rate 36, as wide as the map": (1, 8, 16, 3, 37, (36,)),
    "1x1, a ragged last tile": (2, 72, 16, 9, 9, (0,)),
    "four branches": (2, 16, 24, 9, 9, (0, 2, 4, 12)),
    "two branches of one rate, batch of 32": (32, 8, 16, 3, 3, (1, 1)),
}

RATES = (1, 2, 4, 6, 8, 12, 18, 24, 36)
# (N, H, W, rates, types): every rate on every kind of map
MAPS = {
    "one pixel": (1, 1, 1, RATES, DTYPES),
    "narrower than any rate": (3, 2, 3, RATES, DTYPES),
    "batch of 32": (32, 5, 7, RATES, DTYPES),
    "high and wide": (2, 9, 17, RATES, DTYPES),
    "the map of a 513 crop at output stride 16": (1, 33, 33, (1, 6, 12, 18, 36), DTYPES[:1]),
    "and at output stride 8, with its rates": (1, 65, 65, (12, 24, 36), DTYPES[:1]),
}


def inputs(case, dtype, seed=0):
    n, c, k, h, w, rates = case
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, c, h, w, generator=generator).to(dtype)
    weights = [torch.randn(k, c, *(2 * [3 if r else 1]), generator=generator).to(dtype).float() for r in rates]
    dy = torch.randn(n, k * len(rates), h, w, generator=generator).to(dtype)
    return x, weights, rates, dy


def run(x, weights, rates, dy, wide):
    """Output, moments and gradients: of the op (``wide`` None) or of the reference in that type."""
    ours = wide is None
    place = (lambda t: t.to(DEVICE)) if ours else (lambda t: t.to(wide))
    leaf = place(x).detach().requires_grad_()
    kernels = [(w.to(DEVICE) if ours else w.to(wide)).detach().requires_grad_() for w in weights]
    y, parts = parallel_convs(leaf, kernels, rates) if ours else (parallel_convs_reference(leaf, kernels, rates), None)
    y.backward(place(dy))
    return y.detach(), parts, [leaf.grad, *(w.grad for w in kernels)]


def moments_of(parts):
    """Mean and variance of merged parts, in fp64."""
    count, mean, m2 = parts.double().cpu().unbind(1)
    total = count.sum(0)
    merged = (count * mean).sum(0) / total
    return total, merged, (m2 + count * (mean - merged) ** 2).sum(0) / total


def check_against_fp64(case, dtype):
    """Forward, moments and every gradient."""
    given = inputs(case, dtype)
    with poisoned():
        y, parts, gradients = run(*given, None)
    exact, _, exact_gradients = run(*given, torch.float64)
    plain, _, plain_gradients = run(*given, dtype)
    # Each branch by itself: the large outputs of one must not hide the errors of another.
    branches = [list(t.chunk(len(given[2]), dim=1)) for t in (y, exact, plain)]
    for found, rest in zip(branches, (gradients, exact_gradients, plain_gradients), strict=True):
        found += rest
    check_contract(*branches, dtype, [2] * len(given[2]) + [3] * len(gradients))
    # The moments are of the values as they are stored.
    total, mean, variance = moments_of(parts)
    stored = y.double().cpu()
    assert (total == stored[:, 0].numel()).all()
    assert relative_error(mean, stored.mean((0, 2, 3))) <= 1e-5
    if stored[:, 0].numel() > 1:
        assert relative_error(variance, stored.var((0, 2, 3), correction=0)) <= 1e-5


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("dtype", DTYPES)
def test_forward_moments_and_every_gradient(case, dtype):
    check_against_fp64(case, dtype)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(name, dtype, marks=pytest.mark.slow if size[1] > 33 else ())
        for name, (*size, _, types) in MAPS.items()
        for dtype in types
    ],
)
def test_every_rate_on_every_map(name, dtype):
    n, h, w, rates, _ = MAPS[name]
    check_against_fp64((n, 8, 8, h, w, rates), dtype)


@pytest.mark.parametrize("name", ["four branches", "1x1, a ragged last tile", "rate 6, several blocks of channels"])
def test_pointers_give_what_descriptors_give(name, monkeypatch):
    """GPUs before compute capability 9.0 have no tensor memory accelerator."""
    given = inputs(CASES[name], torch.float32)
    found = run(*given, None)
    monkeypatch.setattr(device_info, "has_tma", lambda device: False)
    again = run(*given, None)
    assert torch.equal(found[0], again[0])
    assert all(torch.equal(a, b) for a, b in zip(found[2], again[2], strict=True))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_folded_normalisation(relu, dtype):
    x, weights, rates, _ = (
        t.to(DEVICE) if isinstance(t, torch.Tensor) else t for t in inputs(CASES["four branches"], dtype)
    )
    weights = [w.to(DEVICE) for w in weights]
    scale, shift = torch.randn(2, 96, generator=torch.Generator().manual_seed(3)).to(DEVICE)

    def folded(wide):
        y = parallel_convs_reference(x.to(wide), [w.to(wide) for w in weights], rates)
        y = y * scale.to(wide).view(1, -1, 1, 1) + shift.to(wide).view(1, -1, 1, 1)
        return y.relu() if relu else y

    with poisoned():
        found = parallel_convs_scaled(x, weights, rates, scale, shift, relu)
    check_contract([found], [folded(torch.float64)], [folded(dtype)], dtype, [2])


def test_a_large_mean_costs_the_variance_no_precision():
    """fp32 values around 100, deviation 0.5: E[x^2] - E[x]^2 is wrong in the third digit."""
    x = torch.randn(4, 8, 9, 9, generator=torch.Generator().manual_seed(0))
    x[:, 0] = 100
    weight = torch.zeros(16, 8, 1, 1)
    weight[:, 0], weight[:, 1] = 1.0, 0.5
    y, parts = parallel_convs(x.to(DEVICE), [weight.to(DEVICE)], [0])
    _, _, variance = moments_of(parts)
    exact = y.double().cpu().var((0, 2, 3), correction=0)
    naive = (y * y).mean((0, 2, 3)) - y.mean((0, 2, 3)) ** 2
    assert relative_error(naive, exact) > 1e-3
    assert relative_error(variance, exact) <= 1e-5


def test_how_the_output_lies():
    """A 1x1 convolution leaves the order of the rows; an atrous one is pixel-major."""
    x, weights, _, _ = inputs((2, 8, 16, 5, 5, (0, 2)), torch.float32)
    x, weights = x.to(DEVICE), [w.to(DEVICE) for w in weights]
    channels_last = x.to(memory_format=torch.channels_last)
    assert parallel_convs(channels_last, weights[:1], [0])[0].is_contiguous(memory_format=torch.channels_last)
    assert is_pixel_major(parallel_convs(pixel_major(x), weights[:1], [0])[0])
    assert is_pixel_major(parallel_convs(channels_last, weights[1:], [2])[0])
    for layout in (channels_last, pixel_major(x), x[:, :, :, ::1]):
        exact = parallel_convs_reference(x, weights, [0, 2])
        assert relative_error(parallel_convs(layout, weights, [0, 2])[0], exact) <= 1e-5


def test_the_same_bits_twice():
    given = inputs(CASES["four branches"], torch.float16)
    first, second = (run(*given, None) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert all(torch.equal(a, b) for a, b in zip(first[2], second[2], strict=True))


def test_another_tile_and_another_number_of_programs_give_the_same_bits(monkeypatch):
    given = inputs((2, 16, 136, 5, 5, (2,)), torch.float16)
    first = run(*given, None)
    monkeypatch.setattr(device_info, "multiprocessors", lambda device: 2)
    monkeypatch.setattr(kernels, "conv_tiles", lambda channels, architecture, fp32: (CONV[0][1],))
    second = run(*given, None)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert all(torch.equal(a, b) for a, b in zip(first[2], second[2], strict=True))


def test_opcheck():
    x, weights, rates, dy = inputs((2, 8, 8, 3, 4, (0, 2)), torch.float32)
    x, dy, weights = x.to(DEVICE), dy.to(DEVICE), [w.to(DEVICE) for w in weights]
    opcheck("conv_branches_backward", (dy, x, weights, list(rates), True))
    opcheck("conv_branches_with", (x, weights, list(rates), *torch.ones(2, 16, device=DEVICE), True))
    stored = [w.to(memory_format=torch.channels_last) for w in weights]  # as training stores them
    opcheck("conv_branches_backward", (dy, x, stored, list(rates), True))
    leaves = [w.requires_grad_() for w in weights]
    opcheck("conv_branches", (x.requires_grad_(), leaves, list(rates), True))
    opcheck("conv_branches", (x, leaves[:1], [0], False))


def test_no_graph_break_under_compile():
    x, weights, rates, _ = inputs((2, 8, 8, 3, 4, (0, 2)), torch.float32)

    def step(x, *weights):
        return parallel_convs(x * 2, weights, rates)[0].sum()

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    leaves = [[t.to(DEVICE).clone().requires_grad_() for t in (x, *weights)] for _ in range(2)]
    for function, tensors in zip((compiled, step), leaves, strict=True):
        function(*tensors).backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(*leaves, strict=True))


def test_supports():
    weight = torch.zeros(8, 8, 3, 3)
    assert supports(torch.zeros(1, 8, 3, 3), [weight]) is None
    assert "10 channels; expected a multiple of 8" in supports(torch.zeros(1, 10, 3, 3).half(), [weight])
    assert "expected fp32, fp16 or bf16" in supports(torch.zeros(1, 8, 3, 3).double(), [weight])
    assert supports(torch.zeros(0, 8, 3, 3), [weight]) == "x is empty"
