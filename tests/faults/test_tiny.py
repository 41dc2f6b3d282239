"""The tiny network is one that a processor's library computes as it should."""

import pytest

from deeplab_fast.config import ModelConfig
from deeplab_fast.model import build_model, resnet
from tests.faults.tiny import LEAST, make_tiny


@pytest.mark.parametrize("block", [resnet.BasicBlock, resnet.Bottleneck])
@pytest.mark.parametrize("model", ["deeplab_v3_s16", "deeplab_v3_s8"])
def test_no_strided_1x1_convolution_has_fewer_channels_than_a_vector(monkeypatch, block, model):
    make_tiny(monkeypatch.setattr, "resnet18", block)
    network = build_model(ModelConfig(backbone="resnet18", model=model))
    convs = [module for module in network.modules() if strided(module)]
    assert convs
    assert all(conv.in_channels >= LEAST for conv in convs), convs


def strided(module):
    return getattr(module, "kernel_size", None) == (1, 1) and module.stride != (1, 1)
