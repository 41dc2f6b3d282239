import itertools
import math

import pytest
import torch
from torch import nn

from deeplab_fast.config import OptimiserConfig
from deeplab_fast.training.optim import SGD, build_optimiser, learning_rate


def rates(total=100, **options):
    config = OptimiserConfig(base_lr=0.015, **options)
    return [learning_rate(config, step, total) for step in range(total)]


def test_cosine():
    assert rates() == [0.015 * 0.5 * (1 + math.cos(math.pi * t / 100)) for t in range(100)]


def test_poly():
    assert rates(lr_type="poly") == [0.015 * (1 - t / 100) ** 0.9 for t in range(100)]


def test_exp_is_a_staircase():
    values = rates(lr_type="exp", lr_decay_step=40, lr_decay_rate=0.1)
    assert values[:40] == [0.015] * 40
    assert values[40:80] == pytest.approx([0.0015] * 40)
    assert values[80:] == pytest.approx([0.00015] * 20)


def test_torch_schedulers_agree():
    """The same rates as torch's CosineAnnealingLR and PolynomialLR."""
    for name, scheduler in (
        ("cos", lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 100)),
        ("poly", lambda o: torch.optim.lr_scheduler.PolynomialLR(o, 100, 0.9)),
    ):
        optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.015)
        schedule, expected = scheduler(optimiser), []
        for _ in range(100):
            expected.append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            schedule.step()
        assert rates(lr_type=name) == pytest.approx(expected, rel=1e-9)


def test_warmup_rises_to_the_schedule():
    values, plain = rates(warmup_steps=10), rates()
    assert values[0] == pytest.approx(plain[0] / 10)
    assert values[9:] == pytest.approx(plain[9:])
    assert all(a < b for a, b in itertools.pairwise(values[:10]))


@pytest.mark.parametrize("decay_norm", [False, True])
def test_weight_decay(decay_norm):
    """On every parameter but BatchNorm's, or on those too."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    config = OptimiserConfig(weight_decay=0.1, base_lr=1.0, momentum=0.0, decay_norm=decay_norm)
    optimiser = build_optimiser(model, config)
    nn.init.ones_(model[1].bias)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimiser.step()
    for name, p in model.named_parameters():
        factor = 0.9 if decay_norm or name.startswith("0.") else 1.0
        torch.testing.assert_close(p.detach(), before[name] * factor)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_updates_are_torch_s(momentum):
    """Channels-last, contiguous and flat parameters, one without a gradient, three steps with changing rates."""
    torch.manual_seed(0)
    shapes = (4, 3, 3, 3), (8, 4, 1, 1), (5,)
    layouts = torch.channels_last, torch.contiguous_format, torch.contiguous_format
    first = [torch.randn(s).to(memory_format=layout) for s, layout in zip(shapes, layouts, strict=True)]
    ours, theirs = ([nn.Parameter(t.clone()) for t in (*first, torch.ones(2))] for _ in range(2))
    optimiser = SGD(ours, 0.1, momentum, 1e-2)
    reference = torch.optim.SGD(theirs, lr=0.1, momentum=momentum, weight_decay=1e-2)
    for rate in (0.1, 0.05, 0.2):
        optimiser.set_rate(rate)
        reference.param_groups[0]["lr"] = rate
        for a, b in zip(ours[:3], theirs[:3], strict=True):
            a.grad = torch.randn(a.shape).to(
                memory_format=torch.channels_last if a.dim() == 4 else torch.preserve_format
            )
            b.grad = a.grad.clone()
        optimiser.step()
        reference.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
        assert a.stride() == b.stride()


def test_a_loaded_state_keeps_the_tensor_that_a_captured_step_reads():
    parameter = nn.Parameter(torch.ones(3))
    optimiser = SGD([parameter], 0.1, 0.9, 0.0)
    parameter.grad = torch.ones(3)
    optimiser.step()
    saved = optimiser.state_dict()
    other = SGD([nn.Parameter(torch.ones(3))], 0.5, 0.9, 0.0)
    rate = other.rate
    other.load_state_dict(saved)
    assert other.param_groups[0]["lr"] is rate
    assert rate == optimiser.rate
    assert torch.equal(next(iter(other.state.values()))["momentum_buffer"], torch.ones(3))


def test_a_gradient_in_another_order_than_the_parameter():
    """As a gradient may be that was set by hand."""
    torch.manual_seed(0)
    value, gradient = torch.randn(4, 3, 3, 3), torch.randn(4, 3, 3, 3)
    parameter = nn.Parameter(value.to(memory_format=torch.channels_last))
    parameter.grad = gradient.clone()
    SGD([parameter], 0.1, 0.0, 0.0).step()
    torch.testing.assert_close(parameter.detach(), value - 0.1 * gradient)
