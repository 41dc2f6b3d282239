"""What makes two results the same, and what does not."""

import torch
from torch import nn

from deeplab_fast.config import EvalConfig, ProtocolConfig, TrainConfig
from deeplab_fast.predict import PredictConfig
from deeplab_fast.storage.provenance import _INDIFFERENT, deciding_flags, differences, weights_digest


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_the_digest_is_of_names_types_and_values():
    digest = weights_digest(network())
    assert weights_digest(network()) == digest
    assert weights_digest(network().to(memory_format=torch.channels_last)) == digest
    changed = network()
    changed[1].running_mean[0] += 1e-6
    others = [changed, network(1), network().bfloat16(), nn.Sequential(network())]
    assert len({digest, *map(weights_digest, others)}) == 5


def test_flags_that_decide():
    one = deciding_flags(EvalConfig())
    assert "ckpt_path" not in one
    assert one["image_mean"] == [103.53, 116.28, 123.675]
    assert deciding_flags(EvalConfig(num_workers=7, fused="off", report="x")) == one
    for other in (EvalConfig(flip=True), EvalConfig(crop_size=65), EvalConfig(model="deeplab_v3_s8")):
        assert deciding_flags(other) != one


def test_every_flag_that_does_not_decide_is_one():
    known = {name for c in (EvalConfig, TrainConfig, ProtocolConfig, PredictConfig) for name in c.__dataclass_fields__}
    assert known >= _INDIFFERENT


def test_differences_are_named():
    one = {"weights": "a", "flags": {"flip": True, "crop_size": 65}}
    other = {"weights": "b", "flags": {"flip": False, "crop_size": 65}}
    assert differences(one, other) == "weights, --flip=True"
    assert differences(one, one) == ""
