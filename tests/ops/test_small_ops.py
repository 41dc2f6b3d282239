"""normalise and upsample_softmax: each against a plain computation."""

import torch
from torch.nn import functional as F

from deeplab_fast.ops import normalise, upsample_softmax


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


def test_upsample_softmax_crops_before_resizing():
    logits = torch.randn(4, 5, 5)
    out = upsample_softmax(logits, 33, (33, 20), (50, 31), True)
    full = F.interpolate(logits[None], (33, 33), mode="bilinear", align_corners=True).softmax(1)[..., :20]
    expected = F.interpolate(full, (50, 31), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(out.sum(0), torch.ones(50, 31))
