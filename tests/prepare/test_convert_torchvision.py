"""``prepare convert`` of torchvision's files: whole networks, and classifiers of images."""

import logging
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from deeplab_fast.config import ModelConfig
from deeplab_fast.errors import UserError
from deeplab_fast.evaluation.inference import trained_model
from deeplab_fast.model import build_model
from deeplab_fast.model.weights import load_pretrained, read_weights, write_mindspore
from deeplab_fast.model.weights.to_torchvision import differences, reasons_not_to_load
from deeplab_fast.predict import PredictConfig
from deeplab_fast.prepare import main
from tests.trials.foreign import with_statistics

CLASSES = 3


def convert(*words):
    return main(["convert", *map(str, words)])


@pytest.fixture
def published(torchvision_segmentation, tmp_path):
    """torchvision's own network, as its training script saves it, with an auxiliary head."""
    torch.manual_seed(0)
    theirs = torchvision_segmentation.deeplabv3_resnet50(
        weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=True
    )
    torch.save({"model": with_statistics(theirs).state_dict(), "epoch": 3}, tmp_path / "theirs.pth")
    return theirs, tmp_path / "theirs.pth"


@pytest.mark.long
def test_torchvision_s_own_network_takes_what_came_from_it(
    published, torchvision_segmentation, tmp_path, capsys, caplog
):
    theirs, path = published
    with caplog.at_level(logging.INFO):
        convert(path, f"--output={tmp_path / 'ours.pt'}", "--crop_size=129")
    assert "convolution after ASPP 5 of 5" in caplog.text
    assert "heads not needed       aux_classifier." in caplog.text
    assert ".partial" not in caplog.text
    assert read_weights(tmp_path / "ours.pt").config["crop_size"] == 129
    with pytest.raises(UserError, match="another head than the recipe's; expected --head=recipe for a MindSpore"):
        convert(path, f"--output={tmp_path / 'out.ckpt'}")
    assert not (tmp_path / "out.ckpt").exists()
    convert(tmp_path / "ours.pt", f"--output={tmp_path / 'again.pth'}")
    said = capsys.readouterr().out
    assert "the file is of this program\n" in said
    assert "head torchvision, output stride 8, ASPP rates 12/24/36; the file is of torchvision\n" in said
    assert "for torchvision.models.segmentation.deeplabv3_resnet50(num_classes=3, aux_loss=False)\n" in said
    assert "others" not in said
    again = torchvision_segmentation.deeplabv3_resnet50(
        weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=False
    )
    again.load_state_dict(torch.load(tmp_path / "again.pth", weights_only=True), strict=True)
    image = torch.randn(1, 3, 65, 65)
    with torch.no_grad():
        assert torch.equal(again.eval()(image)["out"], theirs(image)["out"])


OWN = ModelConfig(head="torchvision", model="deeplab_v3_s8", backbone="resnet50")


def test_what_makes_torchvision_s_outputs_others_is_known():
    assert reasons_not_to_load(OWN) == differences(OWN) == []
    assert differences(replace(OWN, model="deeplab_v3_s16")) == [
        "the output stride is 16, torchvision's 8",
        "the ASPP rates are 6/12/18, torchvision's 12/24/36",
    ]
    assert differences(replace(OWN, head="smp")) == ["the smp head aligns corners and its stages are dilated otherwise"]
    assert reasons_not_to_load(replace(OWN, head="smp")) == []
    found = reasons_not_to_load(replace(OWN, head="recipe", backbone="resnet34", aspp_rates=(1, 2)))
    assert [reason.split()[0] for reason in found] == ["torchvision", "the", "ASPP"]


@pytest.fixture
def classifier(torchvision_segmentation, tmp_path):
    from torchvision.models import resnet

    torch.manual_seed(0)
    theirs = with_statistics(resnet.resnet18(weights=None, num_classes=7))
    torch.save(theirs.state_dict(), tmp_path / "classifier.pth")
    return theirs, tmp_path / "classifier.pth"


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_an_image_classifier_stays_one(classifier, tmp_path, suffix, capsys):
    theirs, path = classifier
    out = tmp_path / f"out{suffix}"
    convert(path, f"--output={out}")
    printed = capsys.readouterr().out
    assert "the backbone resnet18 of a ResNet classifier" in printed
    assert "with its classifier of 7 classes" in printed
    tensors = load_file(out) if suffix == ".safetensors" else torch.load(out, weights_only=True)
    theirs.load_state_dict(tensors["model"] if suffix == ".pt" else tensors, strict=True)
    ours = build_model(ModelConfig(backbone="resnet18"))
    assert len(load_pretrained(ours, out)) == 120
    with pytest.raises(UserError, match="holds a backbone alone"):
        trained_model(PredictConfig, {"ckpt_path": str(out)})


def test_the_model_zoo_s_classifier_becomes_torchvision_s(classifier, tmp_path):
    theirs, _ = classifier
    torch.manual_seed(0)
    parts = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    zoo = {}
    for key, tensor in theirs.state_dict().items():
        module, _, last = key.rpartition(".")
        if last == "num_batches_tracked":
            continue
        is_norm = f"{module}.running_mean" in theirs.state_dict()
        zoo[f"{module}.{parts[last] if is_norm else last}".replace("fc.", "end_point.")] = tensor
    write_mindspore(tmp_path / "zoo.ckpt", zoo)
    convert(tmp_path / "zoo.ckpt", f"--output={tmp_path / 'out.pth'}")
    found = torch.load(tmp_path / "out.pth", weights_only=True)
    theirs.load_state_dict(found, strict=True)
    assert torch.equal(found["fc.weight"], zoo["end_point.weight"])


def break_off(flag):
    return lambda state: {k: v for k, v in state.items() if not k.startswith(flag)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: {"x.weight": torch.zeros(3)}, "holds no ResNet; found x.weight, ..."),
        (break_off("layer1.1.bn2.running_var"), "has no backbone.layer1.1.bn2.running_var; expected a whole resnet18"),
        (break_off("layer4.1."), "its backbone is a ResNet of 2, 2, 2, 1 basic blocks; expected one of resnet18"),
        (lambda state: state | {"fc.weight": torch.full((7, 512), torch.nan)}, "fc.weight holds NaN"),
        (lambda state: state | {"conv1.0.weight": torch.zeros(1)}, "a stem of three convolutions"),
    ],
)
def test_what_is_no_whole_backbone_is_refused(classifier, tmp_path, change, said):
    theirs, path = classifier
    torch.save(change(theirs.state_dict()), path)
    with pytest.raises(UserError, match=said):
        convert(path, f"--output={tmp_path / 'out.pth'}")
    assert not (tmp_path / "out.pth").exists()


def test_a_backbone_is_no_mindspore_file(classifier, tmp_path):
    with pytest.raises(UserError, match="holds a backbone alone; --to=mindspore takes a whole network"):
        convert(classifier[1], f"--output={tmp_path / 'out.ckpt'}")
