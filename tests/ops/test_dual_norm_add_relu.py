"""dual_norm_add_relu: two normalisations and their sum in one pass against fp64; a residual block ends with it."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from deeplab_fast.model import resnet
from deeplab_fast.model.layers import use_fused
from deeplab_fast.ops import defer_norm
from deeplab_fast.ops.conv import route
from deeplab_fast.ops.conv.route import Route
from deeplab_fast.ops.layout import is_pixel_major, pixel_major
from deeplab_fast.ops.norm.norm_relu import norm_relu_reference
from deeplab_fast.ops.triton.launch import record_launches
from tests.ops.kernels import DEVICE, DTYPES, check_contract, needs_kernels, poisoned

pytestmark = [pytest.mark.gpu, needs_kernels]

# (N, C, H, W)
SHAPES = {
    "odd sides and channels": (2, 37, 5, 7),
    "several tiles of channels, the last ragged": (1, 130, 3, 3),
    "several tiles of rows": (3, 16, 9, 11),
    "1x1 map": (4, 48, 1, 1),
}


def run(shape, dtype, wide, training=(True, True), readers=2, stored=lambda x: x):
    """Outputs, gradients, moved statistics: of the op (``wide`` None) or of the reference in that dtype."""
    generator = torch.Generator().manual_seed(0)
    device = DEVICE if wide is None else torch.device("cpu")
    vector = torch.float64 if wide == torch.float64 else torch.float32

    def draw(*size, type_=None):
        value = torch.randn(*size, generator=generator)
        return (value.to(dtype).to(wide or dtype) if type_ is None else value.to(type_)).to(device)

    x, x2, dy, more = (draw(*shape) * 2 + 1 for _ in range(4))
    x, x2 = stored(x), x2.contiguous(memory_format=torch.channels_last)
    vectors = [draw(shape[1], type_=vector) for _ in range(4)]
    statistics = [fill(shape[1], dtype=vector, device=device) for fill in (torch.zeros, torch.ones) * 2]
    leaves = [t.detach().requires_grad_() for t in (x, x2, *vectors)]
    a, b = (leaves[0], *leaves[2:4], *statistics[:2]), (leaves[1], *leaves[4:], *statistics[2:])
    if wide is None:
        first, second = (
            defer_norm(one[0], None, *one[1:], is_batch, 0.1, 1e-5)
            for one, is_batch in zip((a, b), training, strict=True)
        )
        whole = replace(first, residual=second)
        outputs = whole.apply_shared() if readers == 2 else (whole.apply(),)
    else:
        shortcut = norm_relu_reference(*b, None, False, training[1], 0.1, 1e-5)
        y = norm_relu_reference(*a, shortcut, True, training[0], 0.1, 1e-5)
        outputs = (y, y * 1) if readers == 2 else (y,)
    torch.autograd.backward(outputs, [dy, more][: len(outputs)])
    return [*(o.detach() for o in outputs), *statistics, *(t.grad for t in leaves)]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("training", [(True, True), (False, False), (True, False)])
@pytest.mark.parametrize("readers", [1, 2])
def test_against_fp64(shape, dtype, training, readers):
    with poisoned():
        found = run(shape, dtype, None, training, readers)
    exact, plain = (run(shape, dtype, wide, training, readers) for wide in (torch.float64, dtype))
    check_contract(found, exact, plain, dtype, [2] * (readers + 4) + [3] * 6)


def test_maps_that_are_stored_otherwise():
    shape = SHAPES["odd sides and channels"]
    found, exact = (run(shape, torch.float32, wide, stored=pixel_major) for wide in (None, torch.float64))
    check_contract(found, exact, exact, torch.float32, [1] * len(found))
    assert is_pixel_major(found[0])


def test_only_one_reader_s_gradient():
    x, x2 = (torch.randn(2, 8, 3, 3, device=DEVICE, requires_grad=True) for _ in range(2))
    vectors = [torch.ones(8, device=DEVICE), torch.zeros(8, device=DEVICE)]

    def gradients(reader):
        second = defer_norm(x2, None, *vectors, *(v.clone() for v in vectors[::-1]), True, 0.1, 1e-5)
        first = defer_norm(x, None, *vectors, *(v.clone() for v in vectors[::-1]), True, 0.1, 1e-5)
        y = replace(first, residual=second).apply_shared()[reader]
        return torch.autograd.grad(y, [x, x2], torch.ones_like(y))

    for a, b in zip(gradients(0), gradients(1), strict=True):
        assert torch.equal(a, b)


def test_the_end_of_a_block_is_one_pass(monkeypatch):
    """Between the library's convolutions the shortcut's normalisation is neither stored nor summed by itself."""
    monkeypatch.setattr(route, "plan", lambda *_, **__: Route.LIBRARY)
    model = nn.Sequential(resnet.Bottleneck(16, 8, 2, 1), resnet.Bottleneck(32, 8, 1, 1)).to(DEVICE)
    use_fused(model, "on")
    x = torch.randn(2, 16, 5, 5, device=DEVICE).to(memory_format=torch.channels_last)
    with record_launches() as made:
        model(x).apply().sum().backward()
    given = [one.arguments for one in made if one.kernel.__name__ == "norm_relu_kernel"]
    assert sum(one["mean2"] is not None for one in given) == 1
    # Of each block's first and second, and of the whole: none for the shortcut.
    assert len(given) == 2 * 2 + 2
