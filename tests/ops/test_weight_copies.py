"""Copies of weights count for the version that they were made from, and change nothing but the number of casts."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from deeplab_fast.ops.conv.weight_copies import WeightCopies, copied, in_type
from deeplab_fast.training.optim import SGD
from tests.ops.kernels import DEVICE

pytestmark = pytest.mark.gpu

BF16 = torch.bfloat16


@pytest.fixture
def weight():
    values = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    return nn.Parameter(values.to(DEVICE, memory_format=torch.channels_last))


def test_a_copy_serves_until_the_weights_change(weight):
    copies = WeightCopies([weight], BF16)
    assert copied(weight, BF16) is weight  # none was made yet
    copies.refresh()
    there = copies.copies[0]
    assert in_type(weight, BF16) is there
    assert there.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(there, weight.detach().bfloat16())
    with torch.no_grad():
        weight.mul_(2)
    assert torch.equal(in_type(weight, BF16), weight.detach().bfloat16())
    assert copied(weight, BF16) is weight
    copies.refresh()
    assert in_type(weight, BF16) is there


def test_another_type_and_another_tensor_are_cast(weight):
    copies = WeightCopies([weight], BF16)
    copies.refresh()
    assert in_type(weight, torch.float16).dtype == torch.float16
    twin = copy.deepcopy(weight)
    assert in_type(twin, BF16) is not copies.copies[0]


def test_a_loaded_checkpoint_is_seen(weight):
    conv = nn.Conv2d(4, 8, 3, bias=False, device=DEVICE)
    copies = WeightCopies([conv.weight], BF16)
    copies.refresh()
    conv.load_state_dict({"weight": weight.detach()})
    assert torch.equal(in_type(conv.weight, BF16), weight.detach().bfloat16())


def test_an_update_is_seen(weight):
    copies = WeightCopies([weight], BF16)
    copies.refresh()
    weight.grad = torch.ones_like(weight)
    SGD([weight], 0.1, 0.9, 0.0).step()
    assert torch.equal(in_type(weight, BF16), weight.detach().bfloat16())


def test_copies_end_with_who_made_them(weight):
    copies = WeightCopies([weight], BF16)
    copies.refresh()
    del copies
    assert copied(weight, BF16) is weight


def test_the_gradient_goes_on_to_the_weights(weight):
    x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(1)).to(DEVICE, BF16)
    gradients = []
    for copies in (None, WeightCopies([weight], BF16)):
        weight.grad = None
        if copies is not None:
            copies.refresh()
        with torch.autocast(DEVICE.type, BF16):
            F.conv2d(x, copied(weight, BF16)).square().sum().backward()
        gradients.append(weight.grad)
    assert gradients[1].dtype == torch.float32
    assert torch.equal(*gradients)


def test_no_cast_is_left(weight):
    class Casts(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.count += function is torch.ops.aten._to_copy.default
            return function(*args, **(kwargs or {}))

    x = torch.randn(2, 4, 5, 5).to(DEVICE, BF16)
    copies = WeightCopies([weight], BF16)
    found = []
    for refresh in (False, True):
        if refresh:
            copies.refresh()
        with torch.autocast(DEVICE.type, BF16), Casts() as casts:
            F.conv2d(x, copied(weight, BF16))
        found.append(casts.count)
    assert found == [1, 0]
