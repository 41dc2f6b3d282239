"""``prepare convert`` of the recipe's network: each kind of file and the way back, and what is refused."""

import json
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from deeplab_fast.config import ModelConfig
from deeplab_fast.errors import UserError
from deeplab_fast.evaluation.inference import trained_model
from deeplab_fast.model import build_model, resnet
from deeplab_fast.model.weights import infer, read_mindspore, read_weights, write_mindspore
from deeplab_fast.model.weights import save as save_module
from deeplab_fast.predict import PredictConfig
from deeplab_fast.prepare import main
from tests.faults.tiny import make_tiny
from tests.trials.foreign import with_statistics

CLASSES = 3


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with pytest.MonkeyPatch.context() as patch:
        make_tiny(patch.setattr)
        patch.setattr(infer, "ARCHITECTURES", resnet.ARCHITECTURES)
        yield


@pytest.fixture(scope="module")
def recipe(tiny):
    """A network whose configuration no tensor tells."""
    torch.manual_seed(1)
    return with_statistics(build_model(ModelConfig(backbone="resnet18", num_classes=CLASSES, model="deeplab_v3_s8")))


@pytest.fixture
def own(recipe, tmp_path):
    """Its file as training writes it."""
    config = {"model": "deeplab_v3_s8", "backbone": "resnet18", "num_classes": CLASSES, "crop_size": 65}
    content = {"format": "deeplab_fast.weights/1", "model": recipe.state_dict(), "config": config, "miou": 0.5}
    torch.save(content, tmp_path / "best of all é.pt")
    return tmp_path / "best of all é.pt"


def convert(*words):
    return main(["convert", *map(str, words)])


def assert_same_network(path, network, **config):
    """Evaluation builds ``network`` from ``path`` without any flag."""
    found, ours = trained_model(PredictConfig, {"ckpt_path": str(path)})
    assert {name: getattr(found, name) for name in config} == config
    for key, tensor in network.state_dict().items():
        assert key.endswith("num_batches_tracked") or torch.equal(ours.state_dict()[key], tensor), key


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_that_stores_the_configuration_needs_no_flags(own, recipe, tmp_path, suffix, capsys, caplog):
    out = tmp_path / f"deep/er/out{suffix}"
    assert convert(own, f"--output={out}") == 0
    said = capsys.readouterr().out
    assert (
        "DeepLabV3 with resnet18, 3 classes, head recipe, output stride 8, ASPP rates 6/12/18, multi-grid 1/2/4" in said
    )
    assert f"{out}: " in said
    assert "equal when read back" in said
    caplog.clear()
    assert_same_network(out, recipe, model="deeplab_v3_s8", num_classes=CLASSES, crop_size=65)
    assert "taken to have" not in caplog.text
    assert read_weights(out).is_ours
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_safetensors_hold_their_configuration_as_json(own, tmp_path):
    out = tmp_path / "out.safetensors"
    convert(own, f"--output={out}", "--image_mean=1,2,3")
    with safe_open(out, framework="pt") as file:
        facts = file.metadata()
    assert json.loads(facts["config"])["image_mean"] == [1, 2, 3]
    assert "backbone.conv1.weight" in load_file(out)


def test_the_recipe_s_network_is_not_torchvision_s(own, tmp_path, capsys):
    convert(own, f"--output={tmp_path / 'out.pth'}")
    printed = capsys.readouterr().out
    assert "no network of its own takes all of them: torchvision builds no DeepLabV3 on resnet18; the head" in printed
    assert "model" not in torch.load(tmp_path / "out.pth", weights_only=True)


def test_the_recipe_s_own_files_there_and_back(own, recipe, tmp_path):
    convert(own, f"--output={tmp_path / 'out.ckpt'}")
    written = read_mindspore(tmp_path / "out.ckpt")
    assert torch.equal(written["network.resnet.conv1.weight"], recipe.backbone.conv1.weight.detach().flip(1))
    convert(tmp_path / "out.ckpt", f"--output={tmp_path / 'back.pt'}", "--model=deeplab_v3_s8")
    assert_same_network(tmp_path / "back.pt", recipe, model="deeplab_v3_s8", head="recipe")


def test_a_network_with_another_head_gives_its_backbone(recipe, tmp_path, capsys):
    state = {key: tensor for key, tensor in recipe.state_dict().items() if key.startswith("backbone.")}
    state["decode_head.conv_seg.weight"] = torch.zeros(CLASSES, 8, 1, 1)
    torch.save({"meta": {}, "state_dict": state}, tmp_path / "mmseg.pth")
    convert(tmp_path / "mmseg.pth", f"--output={tmp_path / 'out.pth'}")
    assert "the backbone resnet18 of mmsegmentation\nwithout a classifier (fc)" in capsys.readouterr().out
    found = torch.load(tmp_path / "out.pth", weights_only=True)
    assert set(found) == {key.removeprefix("backbone.") for key in state if key.startswith("backbone.")}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "--output: missing"),
        (["--output={}/out.bin"], "expected a name that ends in .pt, .pth, .safetensors, .ckpt, or --to"),
        (["--output={}/out.pt", "--to=safetensors"], "files of safetensors, and no others, end in .safetensors"),
        (["--output={}/out.safetensors", "--to=weights"], "files of safetensors, and no others"),
        (["--output={}/best of all é.pt", "--overwrite=True"], "is the source itself"),
        (["--output={}/there.pt"], "is there already; --overwrite=True replaces it"),
        (["--output={}"], "expected a name that ends in"),
        (["--output={}/there.pt/x.pt"], "is not a folder"),
        (["--output={}/out.pt", "--batch_size=3"], "--batch_size: expected with --to=checkpoint alone"),
        (["--output={}/out.pt", "--num_classes=4"], "see --num_classes"),
        (["--output={}/out.pt", "--head=smp"], "expected weights of this --model, --backbone and --head"),
        (["--output={}/out.ckpt", "--to=checkpoint"], "writes into --train_dir; leave it out"),
    ],
)
def test_mistakes_are_one_line_and_change_nothing(own, tmp_path, flags, said):
    (tmp_path / "there.pt").write_bytes(b"mine")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=said) as refused:
        convert(own, *(flag.format(tmp_path) for flag in flags))
    assert "\n" not in str(refused.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_source_is_one_file_that_exists(own, tmp_path):
    for words in ([], [own, own]):
        with pytest.raises(UserError, match="expected one FILE before the flags"):
            convert(*words, f"--output={tmp_path / 'out.pt'}")
    with pytest.raises(UserError, match=r"FILE=none\.pth: no such file"):
        convert("none.pth", f"--output={tmp_path / 'out.pt'}")
    (tmp_path / "empty.pth").touch()
    with pytest.raises(UserError, match="the file is empty"):
        convert(tmp_path / "empty.pth", f"--output={tmp_path / 'out.pt'}")


def test_a_link_to_the_source_is_the_source(own, tmp_path):
    os.link(own, tmp_path / "link.pt")
    with pytest.raises(UserError, match="is the source itself"):
        convert(own, f"--output={tmp_path / 'link.pt'}", "--overwrite=True")


def test_a_run_s_folder_is_its_best_weights_and_overwrite_replaces(own, recipe, tmp_path):
    (tmp_path / "run").mkdir()
    own.rename(tmp_path / "run/best.pt")
    (tmp_path / "out.pt").write_bytes(b"old")
    convert(tmp_path / "run", f"--output={tmp_path / 'out.pt'}", "--overwrite=True")
    assert_same_network(tmp_path / "out.pt", recipe)


def test_what_is_read_back_otherwise_gets_no_name(own, tmp_path, monkeypatch):
    def write_another(path, tensors):
        name = "network.resnet.layer1.0.conv1.weight"
        write_mindspore(path, tensors | {name: tensors[name] + 1})

    monkeypatch.setattr(save_module, "write_mindspore", write_another)
    (tmp_path / "out.ckpt").write_bytes(b"old")
    with pytest.raises(UserError, match=r"not written; backbone\.layer1\.0\.conv1\.weight differs when"):
        convert(own, f"--output={tmp_path / 'out.ckpt'}", "--overwrite=True")
    assert (tmp_path / "out.ckpt").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([own.name, "out.ckpt"])


def test_metadata_that_are_no_json_are_refused(recipe, tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "x.safetensors"
    tensors = {key: tensor.contiguous() for key, tensor in recipe.state_dict().items()}
    save_file(tensors, path, metadata={"deeplab_fast": "deeplab_fast.weights/2", "config": "{"})
    with pytest.raises(UserError, match="damaged configuration: its metadata hold no JSON"):
        read_weights(path)
    save_file(tensors, path, metadata={"deeplab_fast": "deeplab_fast.weights/2", "config": '{"num_classes": "x"}'})
    with pytest.raises(UserError, match="damaged configuration: --num_classes"):
        trained_model(PredictConfig, {"ckpt_path": str(path)})


def test_names_of_classes_go_along(own, tmp_path):
    names = ["ground", "tree", "sea"]
    torch.save(torch.load(own, weights_only=True) | {"names": names}, own)
    convert(own, f"--output={tmp_path}/out.pt")
    assert torch.load(tmp_path / "out.pt", weights_only=True)["names"] == names
