"""conv_bn: a convolution between two normalisations, against fp64, and what a residual block makes of it."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from deeplab_fast.ops import DeferredNorm, NormConstants, conv_bn, defer_norm
from deeplab_fast.ops.conv.norm_relu_conv import norm_relu_conv, norm_relu_conv_reference
from deeplab_fast.ops.layout import is_pixel_major, pixel_major
from deeplab_fast.ops.norm.norm_relu import norm_relu_reference
from tests.ops.kernels import DEVICE, DTYPES, check_contract, needs_kernels, opcheck, poisoned, relative_error

pytestmark = [pytest.mark.gpu, needs_kernels]

# (N, C, K, H, W)
SHAPES = {
    "a ragged tile": (3, 40, 24, 7, 9),
    "one pixel": (4, 8, 16, 1, 1),
    "several blocks of channels": (1, 136, 72, 5, 5),
}


def run(shape, dtype, wide, residual, training, others=True, rate=0, order=lambda t: t, **options):
    """Normalise, convolve, normalise: output, gradients, moved statistics; of the op (``wide`` None) or the reference.

    ``others``: the normalised activation is read by something else too, as a block's shortcut does.
    """
    n, c, k, h, w = shape
    generator = torch.Generator().manual_seed(1)  # no value so near the ReLU's corner that fp16 rounds it across
    low, vector = (dtype, torch.float32) if wide is None else (wide, wide if wide == torch.float64 else torch.float32)
    device = DEVICE if wide is None else torch.device("cpu")

    def draw(*size, type_=low):
        return torch.randn(*size, generator=generator).to(dtype).to(type_).to(device)

    x, extra, dz, dy = draw(n, c, h, w), draw(n, c, h, w), draw(n, c, h, w), draw(n, k, h, w)
    taps = 3 if rate else 1
    conv = draw(k, c, taps, taps, type_=torch.float32 if wide is None else low)  # master weights
    vectors = [draw(size, type_=vector) for size in (c, c, k, k)]
    statistics = [value(size, dtype=vector, device=device) for size in (c, k) for value in (torch.zeros, torch.ones)]
    leaves = [t.requires_grad_() for t in (x, conv, *vectors, *([extra] if residual else []))]
    shortcut = extra if residual else None
    if wide is None:
        x = leaves[0] = order(x.detach()).requires_grad_()
        before = defer_norm(x, None, *vectors[:2], *statistics[:2], training, 0.1, 1e-5)
        before = replace(before, residual=shortcut)
        options = {"training": training, "keep": others, "rate": rate, **options}
        z, after = conv_bn(before, conv, *vectors[2:], *statistics[2:], **options)
        out = after.apply()
    else:
        z, y = norm_relu_conv_reference(x, *vectors[:2], *statistics[:2], shortcut, conv, training, 0.1, 1e-5, rate)
        out = norm_relu_reference(y, *vectors[2:], *statistics[2:], None, True, training, 0.1, 1e-5)
    torch.autograd.backward([out, z] if others else [out], [dy, dz] if others else [dy])
    return [out.detach(), *statistics, *(t.grad for t in leaves)]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("others", "again"), [(True, False), (False, False), (True, True), (False, True)])
def test_against_fp64(shape, dtype, residual, training, others, again):
    with poisoned():
        found = run(shape, dtype, None, residual, training, others, again=again)
    exact, plain = (run(shape, dtype, wide, residual, training, others) for wide in (torch.float64, dtype))
    check_contract(found, exact, plain, dtype, [2] * 5 + [3] * (len(found) - 5))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32] if DEVICE.type == "cpu" else [torch.bfloat16])
@pytest.mark.parametrize("order", [lambda t: t, pixel_major], ids=["channels-last", "pixel-major"])
@pytest.mark.parametrize(("rate", "again", "training"), [(1, False, True), (2, True, True), (4, False, False)])
def test_3x3_against_fp64(shape, dtype, order, rate, again, training):
    with poisoned():
        found = run(shape, dtype, None, False, training, False, rate, order, again=again)
    exact, plain = (run(shape, dtype, wide, False, training, False, rate) for wide in (torch.float64, dtype))
    check_contract(found, exact, plain, dtype, [2] * 5 + [3] * (len(found) - 5))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("training", [(True, True), (True, False), (False, True)])
def test_after_a_shortcut_that_is_pending_too(shape, dtype, training):
    with poisoned():
        found = run_pair(shape, dtype, None, training)
    exact, plain = (run_pair(shape, dtype, wide, training) for wide in (torch.float64, dtype))
    check_contract(found, exact, plain, dtype, [2] * 6 + [3] * (len(found) - 6))


def run_pair(shape, dtype, wide, training):
    """Two normalisations and their sum, which a convolution and something else read: as :func:`run`."""
    n, c, k, h, w = shape
    generator = torch.Generator().manual_seed(2)
    low, vector = (dtype, torch.float32) if wide is None else (wide, wide if wide == torch.float64 else torch.float32)
    device = DEVICE if wide is None else torch.device("cpu")

    def draw(*size, type_=low):
        return torch.randn(*size, generator=generator).to(dtype).to(type_).to(device)

    x, x2, dz, dy = draw(n, c, h, w), draw(n, c, h, w), draw(n, c, h, w), draw(n, k, h, w)
    conv = draw(k, c, 1, 1, type_=torch.float32 if wide is None else low)
    vectors = [draw(c, type_=vector) for _ in range(4)]
    statistics = [value(c, dtype=vector, device=device) for value in (torch.zeros, torch.ones) * 2]
    leaves = [t.requires_grad_() for t in (x, x2, conv, *vectors)]
    a, b = (x, *vectors[:2], *statistics[:2]), (x2, *vectors[2:], *statistics[2:])
    if wide is None:
        first, second = (
            defer_norm(one[0], None, *one[1:], batch, 0.1, 1e-5) for one, batch in zip((a, b), training, strict=True)
        )
        before = replace(first, residual=second)
        assert before.can_add_in_one_pass()
        z, y, parts = norm_relu_conv(before, conv)
        assert parts.shape[1:] == (3, k)
    else:
        shortcut = norm_relu_reference(*b, None, False, training[1], 0.1, 1e-5)
        z, y = norm_relu_conv_reference(*a, shortcut, conv, training[0], 0.1, 1e-5)
    torch.autograd.backward([y, z], [dy, dz])
    return [y.detach(), z.detach(), *statistics, *(t.grad for t in leaves)]


@pytest.mark.parametrize("stride", [1, 2])
def test_of_a_tensor_with_a_stride(stride):
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(2, 16, 7, 5, generator=generator), torch.randn(24, 16, 1, 1, generator=generator)
    vectors = [torch.ones(24, device=DEVICE), torch.zeros(24, device=DEVICE)]
    statistics = [torch.zeros(24, device=DEVICE), torch.ones(24, device=DEVICE)]
    leaves = [t.to(DEVICE).clone().requires_grad_() for t in (x, weight)]
    z, after = conv_bn(*leaves, *vectors, *statistics, stride=stride)
    out = after.apply()
    out.square().sum().backward()
    assert z is leaves[0]
    wide = [t.detach().double().requires_grad_() for t in (x, weight)]
    exact_y = F.conv2d(*wide, stride=stride)
    exact = F.batch_norm(exact_y, None, None, training=True).relu()
    exact.square().sum().backward()
    assert relative_error(out, exact) <= 1e-5
    assert all(relative_error(a.grad, b.grad) <= 1e-5 for a, b in zip(leaves, wide, strict=True))
    unbiased = exact_y.detach().var((0, 2, 3))
    assert relative_error(statistics[1], 0.9 + 0.1 * unbiased) <= 1e-5


def case(layout=lambda t: t, rate=0):
    generator = torch.Generator().manual_seed(0)
    x = layout(torch.randn(2, 8, 3, 4, generator=generator).to(DEVICE))
    vectors = [torch.randn(8, generator=generator).abs().to(DEVICE) for _ in range(4)]
    taps = 3 if rate else 1
    return x, vectors, torch.randn(16, 8, taps, taps, generator=generator).to(DEVICE)


def test_rows_keep_their_order():
    x, vectors, weight = case(pixel_major)
    z, y, _ = norm_relu_conv(DeferredNorm(x, NormConstants(*vectors, 1e-5), False), weight)
    assert is_pixel_major(z)
    assert is_pixel_major(y)
    other, _, _ = case()
    expected = norm_relu_conv(DeferredNorm(other, NormConstants(*vectors, 1e-5), False), weight)
    assert torch.equal(z, expected[0])
    assert torch.equal(y, expected[1])


def test_the_same_bits_twice():
    first, second = (run(SHAPES["a ragged tile"], torch.float16, None, True, True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(("residual", "again", "rate"), [(True, False, 0), (False, True, 0), (False, True, 2)])
def test_opcheck(residual, again, rate):
    x, (mean, variance, weight, bias), conv = case(rate=rate)
    extra = x.flip(0).requires_grad_() if residual else None
    leaves = [t.requires_grad_() for t in (x, weight, bias, conv)]
    arguments = (x, extra, mean, variance, weight, bias, 1e-5, True, conv, rate, True, again)
    opcheck("norm_relu_conv", arguments)
    x, weight, bias, conv = (t.detach() for t in leaves)
    z = x.new_empty(0) if again else x.relu()
    dy = torch.randn(2, 16, 3, 4, device=DEVICE)
    rest = (1e-5, True, conv, rate, residual)
    opcheck("norm_relu_conv_backward", (x if residual else None, dy, x, z, mean, variance, weight, bias, *rest))


def test_opcheck_of_a_tensor_s():
    x, _, conv = case()
    leaves = x.requires_grad_(), conv.requires_grad_()
    opcheck("conv_moments", (*leaves, True))
    opcheck("conv_moments", (*leaves, False))
    dy = torch.randn(2, 16, 3, 4, device=DEVICE)
    opcheck("conv_moments_backward", (dy, x.detach(), conv.detach(), True))


def test_what_is_not_kept_gives_the_same_bits():
    def gradients(again):
        return run(SHAPES["a ragged tile"], torch.float16, None, False, True, False, again=again)

    assert all(torch.equal(a, b) for a, b in zip(gradients(True), gradients(False), strict=True))


def test_no_graph_break_under_compile():
    def step(x, vectors, conv):
        z, y, _ = norm_relu_conv(DeferredNorm(x * 2, NormConstants(*vectors, 1e-5), True), conv)
        return z.sum() + y.square().sum()

    gradients = []
    for function in (torch.compile(step, fullgraph=True, backend="aot_eager"), step):
        x, vectors, conv = case()
        leaves = [t.requires_grad_() for t in (x, *vectors[2:], conv)]
        function(x, vectors, conv).backward()
        gradients.append([t.grad for t in leaves])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
