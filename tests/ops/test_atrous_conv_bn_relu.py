"""atrous_conv_bn_relu and its module: against fp64, in training, frozen and in inference; and as a drop-in."""

import pytest
import torch
from torch import nn

from deeplab_fast.errors import UserError
from deeplab_fast.model.layers import AtrousConvBNReLU
from deeplab_fast.ops import atrous_conv_bn_relu
from deeplab_fast.ops.conv.atrous_conv_bn_relu import atrous_conv_bn_relu_reference
from tests.ops.kernels import DEVICE, DTYPES, check_contract, needs_kernels, poisoned, relative_error

pytestmark = [pytest.mark.gpu, needs_kernels]

# (N, C, K, H, W, rate)
CASES = {
    "rate 2": (2, 16, 24, 7, 9, 2),
    "one image, rate 6": (1, 8, 16, 9, 9, 6),
    "rate beyond the map, batch of 32": (32, 8, 16, 3, 3, 18),
}


def run(case, dtype, wide, training, relu=True, grad=True):
    """Output, running statistics and, with ``grad``, gradients: of the op (``wide`` None) or the reference."""
    n, c, k, h, w, rate = case
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(n, c, h, w, generator=generator), torch.randn(k, c, 3, 3, generator=generator) * 0.3
    x, weight = (v.to(dtype) for v in values)
    vectors = [torch.rand(k, generator=generator) + 0.5, torch.randn(k, generator=generator)]
    statistics = [torch.full((k,), 0.3), torch.full((k,), 1.7)]
    dy = torch.randn(n, k, h, w, generator=generator).to(dtype)
    if wide is None:
        place = {t: t.to(DEVICE) for t in (x, *vectors, *statistics, dy)}
        weight = weight.float().to(DEVICE)  # master weights
    else:
        double = wide == torch.float64
        place = {t: t.to(wide) if t.dtype == dtype or double else t for t in (x, *statistics, dy, *vectors)}
        place |= {t: t.double() if double else t for t in (*vectors, *statistics)}
        weight = weight.to(wide)
    leaves = [t.detach().clone().requires_grad_(grad) for t in (place[x], weight, *(place[v] for v in vectors))]
    moved = [place[t].clone() for t in statistics]
    with torch.set_grad_enabled(grad):
        if wide is None:
            y = atrous_conv_bn_relu(*leaves, *moved, rate=rate, relu=relu, training=training, fused="on")
        else:
            y = atrous_conv_bn_relu_reference(*leaves, *moved, rate, relu, training, 0.1, 1e-5)
    if grad:
        y.backward(place[dy])
    return [y.detach(), *moved, *([t.grad for t in leaves] if grad else [])]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("training", "grad"), [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("relu", [True, False])
def test_against_fp64(case, dtype, training, grad, relu):
    with poisoned():
        found = run(case, dtype, None, training, relu, grad)
    exact, plain = (run(case, dtype, wide, training, relu, grad) for wide in (torch.float64, dtype))
    check_contract(found, exact, plain, dtype, [2] * 3 + [3] * (len(found) - 3))


def sequential(cin, cout, rate):
    conv = nn.Conv2d(cin, cout, 3, padding=rate, dilation=rate, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(cout), nn.ReLU()).to(DEVICE)


@pytest.mark.parametrize("fused", ["on", "off"])
def test_the_module_is_a_drop_in(fused):
    """The same state dict both ways, the same training, the same evaluation."""
    torch.manual_seed(0)
    theirs, ours = sequential(8, 16, 3), AtrousConvBNReLU(8, 16, rate=3, fused=fused).to(DEVICE)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 8, 7, 7, device=DEVICE)
    for module in (theirs, ours):
        module(x).square().sum().backward()
    for (name, a), b in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        assert relative_error(b.grad, a.grad) <= 1e-5, name
    again = sequential(8, 16, 3)
    again.load_state_dict(ours.state_dict())  # moved statistics, counted batches
    for name, value in theirs.state_dict().items():
        assert relative_error(again.state_dict()[name], value) <= 1e-5, name
    with torch.inference_mode():
        assert relative_error(ours.eval()(x), theirs.eval()(x)) <= 1e-5


def test_no_graph_break_under_compile():
    torch.manual_seed(0)
    module = AtrousConvBNReLU(8, 8, rate=2, fused="on").to(DEVICE)
    x = torch.randn(2, 8, 5, 5, device=DEVICE)
    start = {k: v.clone() for k, v in module.state_dict().items()}
    gradients = []
    for function in (torch.compile(module, fullgraph=True, backend="aot_eager"), module):
        module.load_state_dict(start)
        module.zero_grad()
        function(x).square().sum().backward()
        gradients.append([p.grad.clone() for p in module.parameters()] + [module.norm.running_mean.clone()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_on_says_why_it_cannot():
    x, weight, vector = torch.zeros(1, 10, 3, 3).half(), torch.zeros(8, 10, 3, 3).half(), torch.ones(8)
    with pytest.raises(UserError, match="atrous_conv_bn_relu cannot run fused: 10 channels; expected a multiple of 8"):
        atrous_conv_bn_relu(x.to(DEVICE), weight, vector, vector, vector, vector, fused="on")
