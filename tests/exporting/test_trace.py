"""The trace of a network leaves every size open, in each torch that is supported."""

import torch
import torch._meta_registrations as registrations
from torch import nn

from deeplab_fast.config import ExportConfig
from deeplab_fast.exporting.network import trace


class Pooled(nn.Module):
    """The stem's pooling, in an exported network's place."""

    def given(self, images):
        return images.permute(0, 3, 1, 2).float()

    def forward(self, image):
        return nn.functional.max_pool2d(image, 3, 2, 1)


def div_rtn(x, y):
    """Divide as torch 2.11 does where it computes the size of a pooled map."""
    quotient, remainder = x // y, x % y
    if remainder != 0 and (bool(remainder < 0) != bool(y < 0)):
        quotient -= 1
    return quotient


def test_a_pooled_size_binds_no_open_side(monkeypatch):
    monkeypatch.setattr(registrations, "div_rtn", div_rtn)
    network = Pooled()
    traced = trace(network, ExportConfig(crop_size=33)).module()
    for height, width in ((33, 33), (50, 71), (52, 48)):
        images = torch.rand(1, 3, height, width)
        assert torch.equal(traced(images), network(images))
    assert registrations.div_rtn is div_rtn
