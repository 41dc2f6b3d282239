import pytest
import torch

from deeplab_fast.ops import atrous_conv2d
from deeplab_fast.ops.conv.atrous_conv import atrous_conv2d_reference

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("rate", [1, 2, 6, 12, 18, 24])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (6, 6), (9, 30), (17, 13), (2, 40)])
def test_values_and_gradients_are_the_reference_s(rate, stride, size):
    generator = torch.Generator().manual_seed(rate)
    x = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64, requires_grad=True)
    w = torch.randn(4, 3, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    results = []
    for conv in (atrous_conv2d, atrous_conv2d_reference):
        out = conv(x, w, (stride, stride), (rate, rate))
        results.append((out, *torch.autograd.grad(out.square().sum(), (x, w))))
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-10)


def test_dead_taps_are_not_computed():
    from torch.utils.flop_counter import FlopCounterMode

    x, w = torch.randn(1, 8, 17, 17), torch.randn(8, 8, 3, 3)
    flops = []
    for conv in (atrous_conv2d, atrous_conv2d_reference):
        with FlopCounterMode(display=False) as counter:
            conv(x, w, (1, 1), (18, 18))
        flops.append(counter.get_total_flops())
    assert flops[0] * 9 == flops[1]
