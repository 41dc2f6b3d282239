"""docs/migration.md: every command runs, on files as the other programs leave them, and does what is said of it."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_fast import eval as evaluation
from deeplab_fast import export, prepare, train
from deeplab_fast.config import ModelConfig
from deeplab_fast.model import build_model, resnet
from deeplab_fast.model.weights import as_mindspore, read_mindspore, write_mindspore
from deeplab_fast.model.weights.families import FAMILIES
from tests.data.annotated import make_image, without_sheet, write_mask
from tests.data.devkit import write_devkit
from tests.faults.tiny import make_tiny
from tests.mindrecord_writer import write_mindrecord

TEXT = (Path(__file__).parents[1] / "docs/migration.md").read_text()
SECTIONS = {part.splitlines()[0]: part for part in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]}
PROGRAMS = {"train": train.main, "eval": evaluation.main, "export": export.main}
SMALL = [
    "--crop_size=33",
    "--batch_size=2",
    "--num_workers=0",
    "--device_target=CPU",
    "--precision=fp32",
    "--fused=off",
]
TRAINING = [*SMALL, "--max_steps=1", "--eval_epochs=1"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with VOC in ``data``, in which every ResNet-101 is tiny."""
    make_tiny(monkeypatch.setattr, "resnet101", resnet.Bottleneck)
    without_sheet(monkeypatch)
    write_devkit(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    prepare.main(["lists", "--data_root=data"])
    return tmp_path


def commands_of(title):
    blocks = re.findall(r"^```\n(.*?)^```", SECTIONS[title], re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def run_all(title):
    """Run a section's commands in their order."""
    commands = commands_of(title)
    assert commands
    for python, m, module, *arguments in commands:
        assert (python, m) == ("python", "-m")
        program = module.removeprefix("deeplab_fast.")
        if program == "prepare":
            assert prepare.main(arguments) == 0
        else:
            small = {"train": TRAINING, "eval": SMALL, "export": []}[program]
            assert PROGRAMS[program]([*arguments, *small]) == 0


def network(**config):
    """A state dict, and the same each time."""
    torch.manual_seed(0)
    return build_model(ModelConfig(**config)).state_dict()


def miou_beside(name):
    (metrics,) = Path().glob(f"metrics-{name}-*.json")
    return json.loads(metrics.read_text())["miou"]


def test_from_the_mindspore_recipe(folder, caplog):
    state = network()
    theirs = as_mindspore(state)
    write_mindspore(folder / "deeplab_v3_s16-200_45.ckpt", {**theirs, "global_step": torch.ones(1, dtype=torch.int32)})
    zoo = {name.removeprefix("network.resnet."): value for name, value in theirs.items() if ".resnet." in name}
    write_mindspore(folder / "resnet101.ckpt", {**zoo, "end_point.weight": torch.zeros(10, 4)})
    rows = [line.split() for line in Path("data/vocaug_train_lst.txt").read_text().splitlines()]
    rows = [(image, Path("data", image).read_bytes(), Path("data", label).read_bytes()) for image, label in rows]
    write_mindrecord(folder / "data/vocaug_train.mindrecord", rows, shards=2)
    caplog.set_level("INFO")
    run_all("From the MindSpore recipe")
    assert "the first convolution's channels turned from BGR to RGB (the MindSpore recipe of DeepLabV3" in caplog.text
    assert miou_beside("deeplab_v3_s16-200_45") is not None
    assert json.loads(Path("data/dataset.json").read_text())["sets"]["vocaug"]["samples"] == len(rows)
    assert read_mindspore(Path("deeplab_v3_s16-1_1.ckpt")).keys() == theirs.keys()


def test_from_torchvision(folder, caplog):
    state = network(head="torchvision", model="deeplab_v3_s8")
    aux = {"aux_classifier.0.weight": torch.zeros(2, 2, 3, 3)}
    torch.save({"model": {**state, **aux}, "optimizer": {}, "epoch": 29}, "model_29.pth")
    caplog.set_level("INFO")
    run_all("From torchvision's references/segmentation")
    assert "output stride 8, ASPP rates 12/24/36, as torchvision has it" in caplog.text
    assert "aux_classifier" in caplog.text
    assert miou_beside("model_29") is not None
    assert json.loads(Path("tv/config.json").read_text())["decay_norm"] is True


def test_back_to_torchvision(torchvision_segmentation, tmp_path, monkeypatch):
    """The document's own lines load a whole network's names and shapes."""
    shapes = {key: value.shape for key, value in network(head="torchvision", model="deeplab_v3_s8").items()}
    (tmp_path / "tv").mkdir()
    torch.save(
        {"model": {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}}, tmp_path / "tv/best.pt"
    )
    monkeypatch.chdir(tmp_path)
    (lines,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    names = {}
    exec(lines, names)
    assert not names["model"].classifier[4].weight.any()


def test_from_mmsegmentation(folder, caplog):
    state = {key: value for key, value in network(model="deeplab_v3_s8").items() if key.startswith("backbone.")}
    head = {"decode_head.aspp_modules.0.conv.weight": torch.zeros(8, 8, 1, 1)}
    torch.save({"meta": {}, "state_dict": {**state, **head}}, "deeplabv3_r101-d8.pth")
    names = [f"{i:03}" for i in range(5)]
    for i, name in enumerate(names):
        make_image(folder / f"ade/images/{name}.jpg", 40, 50)
        values = np.random.default_rng(i).integers(0, 3, (40, 50), dtype=np.uint8)
        write_mask(folder / f"ade/annotations/{name}.png", values)
    Path("ade/train.txt").write_text("\n".join(names[:3]))
    Path("ade/val.txt").write_text("\n".join(names[3:]))
    caplog.set_level("INFO")
    run_all("From mmsegmentation")
    made = np.asarray(Image.open("ade/labels/004.png"))
    assert np.array_equal(made, np.where(values == 0, 255, values - (values > 0)))
    assert re.search(
        r"backbone layer4 +20 of 20\n.*ASPP +0 of 30.*not used +decode_head.aspp_modules", caplog.text, re.S
    )
    assert json.loads(Path("mm/config.json").read_text())["num_classes"] == 2


def test_from_segmentation_models_pytorch(folder, caplog):
    (family,) = (one for one in FAMILIES if one.name == "segmentation_models_pytorch")
    renamed = {}
    for key, value in network(head="smp", model="deeplab_v3_s8").items():
        old, new = next(pair for pair in family.renamed if key.startswith(pair[1]))
        renamed[old + key.removeprefix(new)] = value
    torch.save(renamed, "smp.pth")
    caplog.set_level("INFO")
    run_all("From segmentation_models.pytorch")
    assert miou_beside("smp") is not None
    assert "smp.pth: " in caplog.text
    assert "the classifier starts anew" not in caplog.text


def test_flags_in_the_right_columns_exist():
    """What a table calls the flag here; blocks of commands are checked with all documents'."""
    flags = json.loads((Path(__file__).parent / "compatibility/files/interface.json").read_text())["flags"]
    known = {flag for names in flags.values() for flag in names}
    rows = [line.split("|")[2] for line in TEXT.splitlines() if line.startswith("| ") and line.count("|") == 3]
    found = {flag for row in rows for flag in re.findall(r"--(\w+)(?![\w-])", row)}
    assert len(found) > 40
    assert found - {"nproc"} <= known
