"""norm_relu: the kernels against fp64, over shapes, layouts and modes; and what the model relies on."""

import pytest
import torch

from deeplab_fast.errors import UserError
from deeplab_fast.ops import norm_relu
from deeplab_fast.ops.norm.batch_norm_stats import batch_norm_stats
from deeplab_fast.ops.norm.norm_relu import (
    norm_relu_reference,
    normalize_relu,
    normalize_relu_shared,
)
from deeplab_fast.ops.norm.params import NormConstants
from deeplab_fast.ops.triton import tiles
from tests.ops.kernels import DEVICE, DTYPES, check_contract, needs_kernels, opcheck, poisoned, relative_error

pytestmark = [pytest.mark.gpu, needs_kernels]

# (N, C, H, W): each with the reason it is here
SHAPES = {
    "1x1 map": (4, 48, 1, 1),
    "batch of one": (1, 64, 5, 7),
    "one channel": (2, 1, 5, 3),
    "channels no multiple of the tile, odd sides": (2, 37, 5, 7),
    "one row of pixels": (2, 20, 1, 9),
    "several tiles of channels, the last ragged": (1, 130, 3, 3),
    "the widest layer": (1, 2048, 2, 2),
    "several tiles of rows, the last ragged": (3, 16, 9, 11),
}


def inputs(shape, dtype, residual, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = (torch.randn(shape, generator=generator) * 2 + 3).to(dtype)
    extra = torch.randn(shape, generator=generator).to(dtype) if residual else None
    weight, bias = (torch.randn(shape[1], generator=generator) for _ in range(2))
    dy = torch.randn(shape, generator=generator).to(dtype)
    return x, extra, weight, bias, dy


def run(x, extra, weight, bias, dy, wide, **options):
    """Output, gradients and moved statistics: of the op (``wide`` None) or of the reference in that dtype."""
    fused = wide is None
    place = (lambda t: t.to(DEVICE)) if fused else (lambda t: t.cpu())
    leaves = [None if t is None else place(t if fused else t.to(wide)).detach().requires_grad_() for t in (x, extra)]
    parameters = [
        place(t if fused or wide != torch.float64 else t.double()).detach().requires_grad_() for t in (weight, bias)
    ]
    statistics = [
        place(t if wide != torch.float64 else t.double())
        for t in (torch.full_like(bias, 0.3), torch.full_like(bias, 1.7))
    ]
    if fused:
        y = norm_relu(leaves[0], *parameters, *statistics, residual=leaves[1], fused="on", **options)
    else:
        y = norm_relu_reference(
            leaves[0], *parameters, *statistics, leaves[1], options["relu"], options["training"], 0.1, 1e-5
        )
    y.backward(place(dy if fused else dy.to(wide)))
    return [y.detach(), *(t.grad for t in (*leaves, *parameters) if t is not None), *statistics]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(("training", "relu"), [(True, True), (False, True), (True, False)])
def test_forward_and_every_gradient(shape, dtype, residual, training, relu):
    if shape[1] == 2048 and not (training and relu):
        pytest.skip("32 blocks of channels, slow to interpret: once")
    case = inputs(shape, dtype, residual)
    options = {"training": training, "relu": relu}
    with poisoned():
        found = run(*case, None, **options)
    exact, plain = (run(*case, wide, **options) for wide in (torch.float64, dtype))
    factors = [2] + [3] * (len(found) - 3) + [2, 2]
    check_contract(found, exact, plain, dtype, factors)


def test_programs_that_visit_several_tiles(monkeypatch):
    """As on large maps, where there are more tiles than programs."""
    from deeplab_fast.ops.norm.triton import batch_norm_stats
    from deeplab_fast.ops.norm.triton import norm_relu as kernels

    monkeypatch.setattr(batch_norm_stats, "MOMENTS_PROGRAMS", 2)
    monkeypatch.setattr(kernels, "SUMS_PROGRAMS", 2)
    case = inputs((2, 20, 21, 17), torch.float32, False)
    assert 2 * tiles.choose(tiles.MOMENTS, 20).rows < 2 * 21 * 17
    found, exact = (run(*case, wide, training=True, relu=True) for wide in (None, torch.float64))
    check_contract(found, exact, exact, torch.float32, [1] * len(found))


@pytest.mark.parametrize("view", ["NCHW", "every second channel", "offset", "cropped", "expanded gradient"])
def test_strided_and_offset_views(view):
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(4, 40, 6, 9, generator=generator).to(memory_format=torch.channels_last)
    x = {
        "NCHW": base.contiguous(),
        "every second channel": base[:, ::2],
        "offset": base[1:],
        "cropped": base[:, :, 1:5, 2:],
        "expanded gradient": base,
    }[view].to(DEVICE)
    weight, bias = (torch.randn(x.shape[1], generator=generator, device="cpu") for _ in range(2))
    dy = torch.ones(x.shape[0], 1, 1, 1).expand(x.shape) if view.startswith("expanded") else torch.randn(x.shape)
    found = run(x, None, weight, bias, dy, None, training=True, relu=True)
    exact = run(x, None, weight, bias, dy, torch.float64, training=True, relu=True)
    check_contract(found, exact, exact, torch.float32, [1] * len(found))


def test_a_large_mean_costs_the_variance_no_precision():
    """fp32 values around 1e4, deviation 0.5: E[x^2] - E[x]^2 would lose every digit."""
    generator = torch.Generator().manual_seed(0)
    x = 1e4 + 0.5 * torch.randn(4, 24, 9, 9, generator=generator)
    statistics = [torch.zeros(24, device=DEVICE) for _ in range(2)]
    mean, variance = batch_norm_stats(x.to(DEVICE), *statistics, 0.1)
    exact = torch.var_mean(x.double(), [0, 2, 3], correction=0)
    assert relative_error(mean, exact[1]) <= 1e-7
    assert ((variance.double().cpu() - exact[0]).abs() / exact[0]).max() <= 1e-5
    case = (x, None, torch.ones(24), torch.zeros(24), torch.randn(4, 24, 9, 9, generator=generator))
    found, exact, plain = (run(*case, wide, training=True, relu=True) for wide in (None, torch.float64, torch.float32))
    for ours, truth, theirs in zip(found, exact, plain, strict=True):
        assert relative_error(ours, truth) <= max(2 * relative_error(theirs, truth), 1e-5)


def test_a_nan_is_not_hidden():
    x = torch.randn(2, 3, 4, 4)
    x[1, 2, 0, 0] = float("nan")
    y = norm_relu(x.to(DEVICE), *(torch.ones(3, device=DEVICE) for _ in range(4)), training=False, fused="on")
    assert y[1, 2, 0, 0].isnan()
    assert y.isnan().sum() == 1


def test_the_same_bits_twice():
    case = inputs((2, 37, 9, 7), torch.float16, True)
    first, second = (run(*case, None, training=True, relu=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_output_is_channels_last_and_keeps_the_dtype():
    x, _, weight, bias, _ = inputs((2, 8, 5, 5), torch.float16, False)
    y = norm_relu(*(t.to(DEVICE) for t in (x, weight, bias, bias, bias.abs())), training=False, fused="on")
    assert y.dtype == torch.float16
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("residual", [False, True])
def test_opcheck(residual):
    x, extra, weight, bias, _ = (
        None if t is None else t.to(DEVICE) for t in inputs((2, 5, 3, 4), torch.float32, residual)
    )
    x.requires_grad_()
    statistics = [torch.zeros(5, device=DEVICE), torch.ones(5, device=DEVICE)]
    opcheck("batch_moments", (x.detach(), *statistics, 0.1))
    opcheck("norm_relu", (x, extra, *statistics, weight.requires_grad_(), bias, 1e-5, True, True))
    weight, x = weight.detach(), x.detach()
    rest = (1e-5, True, True, residual)
    opcheck("norm_relu_backward", (x * 2, x, extra, *statistics, weight, bias, *rest))


def test_no_graph_break_under_compile():
    x, extra, weight, bias, _ = (t.to(DEVICE) for t in inputs((2, 5, 3, 4), torch.float32, True))
    statistics = [torch.zeros(5, device=DEVICE), torch.ones(5, device=DEVICE)]

    def step(x, extra):
        return norm_relu(x * 2, weight, bias, *statistics, residual=extra, fused="on").sum()

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    leaves = [t.detach().clone().requires_grad_() for t in (x, extra)]
    compiled(*leaves).backward()
    found = [statistics[0].clone(), *(t.grad for t in leaves)]
    for s, start in zip(statistics, (0.0, 1.0), strict=True):
        s.fill_(start)
    leaves = [t.detach().clone().requires_grad_() for t in (x, extra)]
    step(*leaves).backward()
    for a, b in zip(found, [statistics[0], *(t.grad for t in leaves)], strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("used", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_of_two_readers_are_added_where_they_are_read(used, residual, dtype):
    """As torch adds them: the same bits, but the weights' gradients, whose sums are of rounded values either way."""
    x, extra, weight, bias, dy = (
        t.to(DEVICE) if t is not None else None for t in inputs((3, 20, 9, 7), dtype, residual)
    )
    mean, variance = torch.full_like(bias, 0.3), torch.full_like(bias, 1.7)
    factors = dy, torch.flip(dy, (0,))
    found = []
    for twice in (True, False):
        leaves = [t.detach().clone().requires_grad_() for t in (x, extra, weight, bias) if t is not None]
        one, rest = (leaves[1], leaves[2:]) if residual else (None, leaves[1:])
        constants = NormConstants(mean, variance, *rest, 1e-5)
        if twice:
            both = normalize_relu_shared(leaves[0], constants, one, True)
        else:
            both = (normalize_relu(leaves[0], constants, one, True, True),) * 2
        loss = sum((y * f).sum() for y, f, wanted in zip(both, factors, used, strict=True) if wanted)
        found.append(torch.autograd.grad(loss, leaves))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_on_says_why_it_cannot_and_off_is_plain():
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, device=DEVICE)
    rest = [torch.ones(3, dtype=torch.float64, device=DEVICE) for _ in range(4)]
    with pytest.raises(UserError, match=r"--fused=on: norm_relu cannot run fused: x is torch\.float64"):
        norm_relu(x, *rest, fused="on")
    assert torch.equal(norm_relu(x, *rest, training=False, fused="off"), norm_relu(x, *rest, training=False))
