from typing import get_args
from unittest import mock

import pytest
import torch
from torch import nn

from deeplab_fast.config import ModelConfig
from deeplab_fast.config.shared import Backbone
from deeplab_fast.errors import UserError
from deeplab_fast.model import build_model
from deeplab_fast.model.batch_norm import BatchNorm2d
from deeplab_fast.model.layers import Dropout, span_processes
from deeplab_fast.model.resnet import ARCHITECTURES


def dilations(model, layer):
    return [
        m.dilation[0]
        for m in getattr(model.backbone, layer).modules()
        if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)
    ]


@pytest.mark.parametrize(
    ("name", "head", "layer3", "layer4", "rates"),
    [
        ("deeplab_v3_s16", "recipe", {1}, [2, 4, 8], (6, 12, 18)),
        ("deeplab_v3_s8", "recipe", {2}, [4, 8, 16], (6, 12, 18)),
        ("deeplab_v3_s16", "torchvision", {1}, [1, 2, 2], (6, 12, 18)),
        ("deeplab_v3_s8", "torchvision", {1, 2}, [2, 4, 4], (12, 24, 36)),
    ],
)
def test_rates(name, head, layer3, layer4, rates):
    model = build_model(ModelConfig(model=name, head=head, backbone="resnet50"))
    assert set(dilations(model, "layer3")) == layer3
    assert dilations(model, "layer4") == layer4
    assert tuple(branch[0].dilation[0] for branch in model.classifier[0].convs[1:4]) == rates
    size = 9 if name.endswith("16") else 17
    model.eval()
    assert model(torch.zeros(1, 3, 129, 129)).shape == (1, 21, size, size)


@pytest.mark.parametrize(("backbone", "millions"), [("resnet18", 15.3), ("resnet50", 39.0), ("resnet101", 58.0)])
def test_size(backbone, millions):
    count = sum(p.numel() for p in build_model(ModelConfig(backbone=backbone)).parameters())
    assert count / 1e6 == pytest.approx(millions, abs=1.0)


def test_unknown_backbone():
    with pytest.raises(UserError, match="--backbone=vgg: expected one of resnet18"):
        build_model(ModelConfig(backbone="vgg"))


def test_a_batch_of_one_trains():
    model = build_model(ModelConfig(backbone="resnet18", num_classes=3)).train()
    pooled = model.classifier[0].convs[4][2]
    before = pooled.running_mean.clone()
    model(torch.randn(1, 3, 65, 65)).sum().backward()
    assert torch.equal(pooled.running_mean, before)
    assert model.classifier[0].convs[4][1].weight.grad is not None


def test_above_one_the_pooled_branch_is_torch_s_batch_norm():
    ours, theirs = BatchNorm2d(4), nn.BatchNorm2d(4)
    x = torch.randn(3, 4, 1, 1)
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.running_var, theirs.running_var)


def test_freeze_bn():
    model = build_model(ModelConfig(backbone="resnet18", freeze_bn=True, dropout=0.0)).train()
    before = {k: v.clone() for k, v in model.named_buffers()}
    x = torch.randn(2, 3, 65, 65)
    out = model(x)
    out.sum().backward()
    assert all(torch.equal(v, before[k]) for k, v in model.named_buffers())
    assert model.backbone.bn1.weight.grad is not None
    torch.testing.assert_close(out, model.eval()(x))


def test_recipe_initialisation():
    torch.manual_seed(0)
    weight = build_model(ModelConfig(backbone="resnet50")).backbone.layer1[0].conv1.weight
    bound = (6 / (64 + 64)) ** 0.5
    assert weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)


def test_dropout_masks_do_not_depend_on_the_number_of_processes():
    x = torch.ones(6, 5, 4, 4)
    layer = Dropout(0.7).train()
    torch.manual_seed(4)
    whole = layer(x)
    parts = []
    for rank in (0, 1):
        span_processes(layer, rank, 2, sync_bn=False)
        torch.manual_seed(4)
        parts.append(layer(x[rank * 3 : rank * 3 + 3]))
    assert torch.equal(torch.cat(parts), whole)
    assert (whole > 0).float().mean().item() == pytest.approx(0.3, abs=0.06)
    assert whole.max().item() == pytest.approx(1 / 0.3)
    assert torch.equal(layer.eval()(x), x)


def test_batches_are_counted_once_and_together():
    model = build_model(ModelConfig(backbone="resnet18", num_classes=3))
    norms = [module for module in model.modules() if isinstance(module, BatchNorm2d)]
    with mock.patch.object(torch, "_foreach_add_", wraps=torch._foreach_add_) as add:
        model.train()(torch.randn(2, 3, 33, 33))
        model(torch.randn(1, 3, 33, 33))
    assert add.call_count == 2
    counts = [int(norm.num_batches_tracked) for norm in norms]
    pooling = norms.index(model.classifier[0].convs[-1][2])  # of one value a channel takes no statistics
    assert counts.pop(pooling) == 1
    assert set(counts) == {2}
    model.eval()(torch.randn(2, 3, 33, 33))
    assert int(norms[0].num_batches_tracked) == 2


def test_a_normalisation_by_itself_counts_at_once():
    norm = BatchNorm2d(4).train()
    norm(torch.randn(2, 4, 3, 3))
    assert int(norm.num_batches_tracked) == 1


def test_every_backbone_that_a_flag_names_is_there():
    assert set(ARCHITECTURES) == set(get_args(Backbone))
