"""Ask for kept tensors in one mode and use them in another."""

import contextlib

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from deeplab_fast.ops.constants import kept
from deeplab_fast.ops.input.normalise import normalise_reference
from deeplab_fast.ops.upsampling.upsample import cells, interpolation_matrix
from tests.ops.kernels import DEVICE

pytestmark = pytest.mark.gpu

MODES = {
    "plain": contextlib.nullcontext,
    "inference": torch.inference_mode,
    "no gradients": torch.no_grad,
    "fake": lambda: FakeTensorMode(allow_non_fake_inputs=True),
}


@pytest.mark.parametrize("mode", MODES)
def test_the_first_caller_s_mode_does_not_stay(mode):
    size = 40 + list(MODES).index(mode)  # of this test alone
    with MODES[mode]():
        matrix = interpolation_matrix(7, size, True, torch.float32, DEVICE)
        axis = cells(7, size, True, DEVICE)
    x = torch.ones(7, requires_grad=True, device=DEVICE)
    (matrix @ x + axis.shares * x.sum()).sum().backward()
    torch.testing.assert_close(matrix.sum(1), torch.ones(size, device=DEVICE))
    torch.testing.assert_close(x.grad, matrix.sum(0) + axis.shares.sum())
    assert interpolation_matrix(7, size, True, torch.float32, DEVICE) is matrix


@pytest.mark.parametrize("mode", MODES)
def test_images_are_normalised_by_numbers(mode):
    std = (2.0, 2.0, float(list(MODES).index(mode) + 1))  # of this test alone

    def found():
        images = torch.full((1, 2, 2, 3), 7, dtype=torch.uint8, device=DEVICE)
        extents = torch.tensor([[0, 2, 0, 2]], device=DEVICE)
        return normalise_reference(images, extents, (1.0, 3.0, 5.0), std, torch.bfloat16)

    with MODES[mode]():
        found()
    assert found()[0, :2, 0, 0].tolist() == [3.0, 2.0]


def test_it_is_made_again_while_compiling():
    made = []

    @kept(4)
    def ones(size):
        made.append(size)
        return torch.ones(size)

    assert ones(3) is ones(3)
    assert made == [3]
    twice = torch.compile(lambda x: x + ones(3), fullgraph=True, backend="eager")
    assert torch.equal(twice(torch.ones(3)), torch.full((3,), 2.0))
