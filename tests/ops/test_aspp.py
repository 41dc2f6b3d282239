"""aspp: all branches in one op, against fp64, with the running statistics of each; image pooling at batch 1."""

import pytest
import torch

from deeplab_fast.ops import NormParams, aspp
from deeplab_fast.ops.layout import is_pixel_major
from tests.ops.kernels import DEVICE, DTYPES, check_contract, needs_kernels, poisoned

pytestmark = [pytest.mark.gpu, needs_kernels]

# (N, C, K, H, W, rates). Not N = 2: normalised, a pooled channel's two values are 1 and -1, and the gradient cancels.
CASES = {
    "usual rates, small map": (3, 16, 24, 9, 9, (6, 12, 18)),
    "one image": (1, 8, 16, 5, 7, (2, 4)),
    "batch of 32": (32, 8, 8, 3, 3, (1, 2, 12)),
}


def norm(k, generator, double):
    weight = torch.rand(k, generator=generator) + 0.5
    values = weight, torch.randn(k, generator=generator), torch.full((k,), 0.1), torch.full((k,), 1.3)
    return NormParams(*(v.double() if double else v for v in values))


def run(case, dtype, wide, training, grad=True):
    """Output, running statistics and gradients: by the kernels (``wide`` None), or by torch in that type."""
    n, c, k, h, w, rates = case
    rates = (0, *rates)
    generator = torch.Generator().manual_seed(0)
    type_, double = (dtype if wide is None else wide), wide == torch.float64
    device = DEVICE if wide is None else torch.device("cpu")
    x = torch.randn(n, c, h, w, generator=generator).to(dtype).to(type_)
    weights = [(torch.randn(k, c, *(2 * [3 if r else 1]), generator=generator) * 0.3).to(dtype) for r in rates]
    pool_weight = torch.randn(k, c, 1, 1, generator=generator).to(dtype)
    norms = [norm(k, generator, double) for _ in (*rates, "pool")]
    dy = torch.randn(n, k * (len(rates) + 1), h, w, generator=generator).to(dtype)
    leaves = [t.to(type_).to(device).requires_grad_(grad) for t in (x, *weights, pool_weight)]
    norms = [NormParams(*(v.to(device) for v in values)) for values in norms]
    parameters = [v.requires_grad_(grad) for values in norms for v in values[:2]]
    with torch.set_grad_enabled(grad):
        y = aspp(
            leaves[0],
            leaves[1:-1],
            rates,
            norms[:-1],
            leaves[-1],
            norms[-1],
            training=training,
            fused="on" if wide is None else "off",
        )
    if grad:
        y.backward(dy.to(type_).to(device))
    statistics = [v for values in norms for v in values[2:]]
    return [y.detach(), *statistics, *([t.grad for t in (*leaves, *parameters)] if grad else [])]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("training", "grad"), [(True, True), (False, True), (False, False)])
def test_against_fp64(case, dtype, training, grad):
    with poisoned():
        found = run(case, dtype, None, training, grad)
    exact, plain = (run(case, dtype, wide, training, grad) for wide in (torch.float64, dtype))
    statistics = 2 * (len(case[-1]) + 2)
    check_contract(found, exact, plain, dtype, [2] * (1 + statistics) + [3] * (len(found) - 1 - statistics))
    if case[0] > 1 or not training:
        assert is_pixel_major(found[0]) == (case[0] > 1)


def test_at_batch_one_the_pooled_branch_keeps_its_statistics():
    """One value a channel has no variance."""
    found = run(CASES["one image"], torch.float32, None, True)
    branches = len(CASES["one image"][-1]) + 1
    *_, mean, variance = found[1 : 1 + 2 * (branches + 1)]
    assert (mean == 0.1).all()
    assert (variance == 1.3).all()
    assert not (found[1] == 0.1).any()


def test_the_same_bits_twice():
    first, second = (run(CASES["usual rates, small map"], torch.float16, None, True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
