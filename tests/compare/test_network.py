"""The reference's network is torchvision's, and ours with its weights gives its outputs."""

import dataclasses

import pytest
import torch

from deeplab_fast.compare.network import ReferenceNetwork
from deeplab_fast.compare.scoring import disagreement
from deeplab_fast.config import TrainConfig
from deeplab_fast.errors import UserError

FIVE = TrainConfig(model="deeplab_v3_s8", backbone="resnet18", head="torchvision", num_classes=5, crop_size=65)


def test_it_is_torchvisions_where_torchvision_builds_one(torchvision_segmentation):
    theirs = torchvision_segmentation.deeplabv3_resnet50(
        weights=None, weights_backbone=None, num_classes=5, aux_loss=True
    ).eval()
    own = ReferenceNetwork("resnet50", 5, 8, aux=True).eval()
    own.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 65, 49)
    with torch.inference_mode():
        expected, found = theirs(x), own(x)
    assert found.keys() == expected.keys() == {"out", "aux"}
    for name in expected:
        assert torch.equal(found[name], expected[name])


@pytest.mark.parametrize(
    ("backbone", "model"),
    [("resnet18", "deeplab_v3_s8"), ("resnet18", "deeplab_v3_s16"), ("resnet34", "deeplab_v3_s16")],
)
def test_ours_gives_its_outputs_where_torchvision_builds_none(backbone, model):
    torch.manual_seed(0)
    config = dataclasses.replace(FIVE, model=model, backbone=backbone)
    network = ReferenceNetwork(backbone, 5, config.output_stride, aux=True)
    assert disagreement(network, config) < 1e-5


def test_a_network_that_gives_other_outputs_is_refused():
    network = ReferenceNetwork("resnet18", 5, 8)
    with pytest.raises(UserError, match="the networks disagree"):
        disagreement(network, dataclasses.replace(FIVE, aspp_rates=(2, 3, 4)))
