"""The two command lines of the MindSpore recipe, flag for flag, on its own kinds of files; only the sizes are small."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from deeplab_fast import eval as evaluate_program
from deeplab_fast import export, prepare, train
from deeplab_fast.config import ModelConfig
from deeplab_fast.model import build_model, resnet
from deeplab_fast.model.weights import as_mindspore, read_mindspore, write_mindspore
from tests.faults.tiny import make_tiny
from tests.mindrecord_writer import write_mindrecord
from tests.trials.samples import CLASSES, write_samples


@pytest.fixture
def files(tmp_path, monkeypatch):
    """What a user of the recipe has: MindRecord files, the model zoo's ResNet-101, images and a list to evaluate on."""
    make_tiny(monkeypatch.setattr, "resnet101", resnet.Bottleneck)
    data = write_samples(tmp_path / "VOC2012")
    lines = [line.split() for line in (data / "train.txt").read_text().splitlines()]
    rows = [(Path(i).name, (data / i).read_bytes(), (data / label).read_bytes()) for i, label in lines]
    write_mindrecord(tmp_path / "vocaug_train.mindrecord", rows, shards=2)
    shutil.copy(data / "val.txt", tmp_path / "voc_val_lst.txt")
    torch.manual_seed(5)
    backbone = as_mindspore(build_model(ModelConfig(num_classes=CLASSES)).state_dict())
    named = {key.removeprefix("network.resnet."): value for key, value in backbone.items() if ".resnet." in key}
    write_mindspore(tmp_path / "resnet101.ckpt", named | {"end_point.weight": torch.zeros(1001, 2048)})
    return tmp_path


def train_flags(folder):
    return [
        f"--data_file={folder}/vocaug_train.mindrecord0",
        f"--train_dir={folder}/ckpt",
        *("--train_epochs=2", "--batch_size=4", "--crop_size=65", "--base_lr=0.015", "--lr_type=cos"),
        *("--min_scale=0.5", "--max_scale=2.0", "--ignore_label=255", f"--num_classes={CLASSES}"),
        *("--model=deeplab_v3_s16", f"--ckpt_pre_trained={folder}/resnet101.ckpt"),
        *("--save_steps=2", "--keep_checkpoint_max=200", "--device_target=CPU"),
    ]


def eval_flags(folder, checkpoint):
    return [
        f"--data_root={folder}/VOC2012",
        f"--data_lst={folder}/voc_val_lst.txt",
        *("--batch_size=2", "--crop_size=65", "--ignore_label=255", f"--num_classes={CLASSES}"),
        *("--model=deeplab_v3_s16", "--scales_type=1", "--flip", "--freeze_bn", "--device_target=CPU"),
        f"--ckpt_path={checkpoint}",
    ]


def test_from_mindrecord_and_a_mindspore_backbone_to_the_same_figures_there_and_back(files, caplog):
    with caplog.at_level("INFO"):
        train.main(train_flags(files))
    assert "10 samples in 2 MindRecord files" in caplog.text
    assert "backbone layer4        20 of 20" in caplog.text
    assert "heads not needed       end_point (1)" in caplog.text
    ours = files / "ckpt/deeplab_v3_s16-2_2.pt"
    assert ours.is_file()

    theirs = files / "deeplab_v3_s16-2_2.ckpt"
    export.main([f"--ckpt_path={ours}", "--format=mindspore", f"--output={theirs}"])
    start, end = read_mindspore(files / "resnet101.ckpt"), read_mindspore(theirs)
    trained = torch.load(ours, weights_only=True)["model"]["backbone.conv1.weight"]
    assert not torch.equal(trained, start["conv1.weight"])
    assert torch.equal(end["network.resnet.conv1.weight"], trained.flip(1))

    figures = []
    for checkpoint in (ours, theirs):
        evaluate_program.main([*eval_flags(files, checkpoint), f"--report={files}/{checkpoint.suffix[1:]}"])
        (metrics,) = (files / checkpoint.suffix[1:]).glob("metrics-*.json")
        figures.append(json.loads(metrics.read_text()))
    assert figures[0]["confusion_matrix"] == figures[1]["confusion_matrix"]
    assert figures[0]["miou"] == figures[1]["miou"]


def test_losses_are_those_from_tar(files):
    """Over 50 steps, to the bit."""
    tar = files / "tar/train.tar"
    flags = [f"--data_file={files}/vocaug_train.mindrecord0", "--shuffle=False", f"--num_classes={CLASSES}"]
    prepare.main(["records", *flags, f"--dst_path={tar}"])
    losses = []
    for data_file in (f"{files}/vocaug_train.mindrecord0", str(tar)):
        folder = files / f"run-{len(losses)}"
        more = [f"--data_file={data_file}", f"--train_dir={folder}", "--max_steps=50", "--save_steps=1000"]
        train.main([*train_flags(files), *more])
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        losses.append([line["loss"] for line in lines if "loss" in line])
    assert len(losses[0]) == 50
    assert losses[0] == losses[1]
