"""normalise against a plain computation."""

import pytest
import torch

from deeplab_fast.ops import extension, normalise
from deeplab_fast.ops.input.normalise import normalise_reference

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_normalise_equals_the_reference_bit_for_bit(dtype):
    images = torch.randint(0, 256, (4, 19, 23, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    extents = torch.tensor([[0, 19, 0, 23], [0, 7, 3, 23], [2, 9, 0, 11], [5, 5, 4, 4]], dtype=torch.int32)
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    found = normalise(images, extents, mean, std, dtype)
    expected = normalise_reference(images, extents, mean, std, dtype)
    assert torch.equal(found, expected)
    assert found.stride() == expected.stride()


def test_normalise_refuses_an_extent_beyond_its_image():
    if extension.load()[0] is None:
        pytest.skip("the reference takes what there is")
    images, extents = torch.zeros(1, 8, 8, 3, dtype=torch.uint8), torch.tensor([[0, 9, 0, 8]], dtype=torch.int32)
    with pytest.raises(ValueError, match="beyond its image"):
        normalise(images, extents, (0, 0, 0), (1, 1, 1), torch.float32)


def test_normalise_is_zero_outside_the_extent_and_exact_inside():
    images = torch.randint(0, 256, (2, 8, 9, 3), dtype=torch.uint8)
    extents = torch.tensor([[0, 5, 2, 9], [0, 8, 0, 9]], dtype=torch.int32)
    mean, std = (10.0, 20.0, 30.0), (2.0, 3.0, 4.0)
    out = normalise(images, extents, mean, std, torch.float32)
    assert out.shape == (2, 3, 8, 9)
    assert out.is_contiguous(memory_format=torch.channels_last)
    plain = (images.permute(0, 3, 1, 2).float() - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    assert torch.equal(out[1], plain[1])
    assert torch.equal(out[0, :, :5, 2:], plain[0, :, :5, 2:])
    assert not out[0, :, 5:].any()
    assert not out[0, :, :, :2].any()
