"""A network as a folder: the same bits come back, every command takes it, and nothing of another kind is replaced."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import deeplab_fast
from deeplab_fast import predict
from deeplab_fast.config import EvalConfig, ExportConfig
from deeplab_fast.errors import UserError
from deeplab_fast.evaluation.inference import load_trained
from deeplab_fast.prepare import convert
from deeplab_fast.storage.provenance import weights_digest
from tests.prediction.networks import NAMES, network, picture, save_network

FLAGS = {"device_target": "CPU", "precision": "fp32"}
FILES = ["README.md", "config.json", "model.safetensors"]


@pytest.fixture
def segment(weights):
    return deeplab_fast.Segmenter(weights, **FLAGS)


@pytest.fixture
def folder(segment, tmp_path):
    return segment.save_pretrained(tmp_path / "süd see/net")


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def change(folder, **values):
    """Replace what ``config.json`` says."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_logits_come_back_to_the_bit(folder, weights):
    assert sorted(content(folder)) == FILES
    before = load_trained(EvalConfig, {"ckpt_path": str(weights)})
    for source in (folder, folder / "model.safetensors"):
        config, model, names = load_trained(EvalConfig, {"ckpt_path": str(source)})
        assert names == tuple(NAMES)
        assert (config.crop_size, config.image_mean) == (before.config.crop_size, before.config.image_mean)
        image = torch.randn(2, 3, 65, 65, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            assert torch.equal(model(image), before.model(image))


def test_the_protocol_of_the_segmenter_comes_back_and_flags_win(weights, tmp_path):
    first = deeplab_fast.Segmenter(weights, **FLAGS, flip=True, window=40, overlap=0.25, scales_type=1, crop_size=49)
    folder, image = first.save_pretrained(tmp_path / "net"), picture(50, 90)
    for again in (deeplab_fast.Segmenter(folder, **FLAGS), deeplab_fast.Segmenter.from_pretrained(folder, **FLAGS)):
        assert np.array_equal(again(image).probabilities, first(image).probabilities)
    other = deeplab_fast.Segmenter(folder, **FLAGS, flip=False, window=0).config
    assert (other.flip, other.window, other.scales_type, other.crop_size) == (False, 0, 1, 49)
    assert not load_trained(EvalConfig, {"ckpt_path": str(folder)}).config.flip  # an evaluation says its own


def test_commands_take_the_folder(folder, weights, photos, tmp_path):
    for name, source in (("of_folder", folder), ("of_file", weights)):
        flags = [f"--ckpt_path={source}", f"--input={photos}", f"--output={tmp_path / name}", "--device_target=CPU"]
        assert predict.main([*flags, "--precision=fp32", "--save=classes"]) == 0
    for path in (tmp_path / "of_file").rglob("*.png"):
        assert path.read_bytes() == (tmp_path / "of_folder" / path.relative_to(tmp_path / "of_file")).read_bytes()
    assert load_trained(ExportConfig, {"ckpt_path": str(folder)}).names == tuple(NAMES)
    assert convert.main([str(folder), f"--output={tmp_path / 'again.pt'}"]) == 0
    assert deeplab_fast.Segmenter(tmp_path / "again.pt", **FLAGS).names == tuple(NAMES)


def test_saving_again_writes_the_same_files(segment, folder):
    before = content(folder)
    segment.save_pretrained(folder)
    assert content(folder) == before
    again = deeplab_fast.Segmenter(folder, **FLAGS)
    assert content(again.save_pretrained(folder)) == before
    assert weights_digest(network()) == weights_digest(load_trained(EvalConfig, {"ckpt_path": str(folder)}).model)


def test_names_may_be_changed_in_config_json(folder):
    change(folder, names=["Boden", "Baum", "See"])
    assert deeplab_fast.Segmenter(folder, **FLAGS).names == ("Boden", "Baum", "See")


def test_a_network_without_names_has_none_in_the_folder(unnamed, tmp_path):
    folder = deeplab_fast.Segmenter(unnamed, **FLAGS).save_pretrained(tmp_path / "net")
    assert "names" not in json.loads((folder / "config.json").read_text())
    assert "Classes" not in (folder / "README.md").read_text()
    assert deeplab_fast.Segmenter(folder, **FLAGS).names == ("class 0", "class 1", "class 2")


def test_a_card_that_was_changed_stays_and_another_is_made_anew(segment, unnamed, folder, caplog):
    first = (folder / "README.md").read_bytes()
    deeplab_fast.Segmenter(unnamed, **FLAGS).save_pretrained(folder)
    assert (folder / "README.md").read_bytes() != first
    (folder / "README.md").write_text("# Ours\n")
    for _ in range(2):
        caplog.clear()
        with caplog.at_level("INFO", "deeplab_fast"):
            segment.save_pretrained(folder)
        assert "README.md: stays as it is" in caplog.text
        assert (folder / "README.md").read_text() == "# Ours\n"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_files_of_another_kind_are_not_replaced(segment, tmp_path, name):
    target = tmp_path / "run"
    target.mkdir()
    (target / name).write_text('{"train_dir": "run"}')
    with pytest.raises(
        UserError, match=f"run: holds {name} of another kind; expected none, or those of an earlier save"
    ):
        segment.save_pretrained(target)
    assert content(target) == {name: b'{"train_dir": "run"}'}
    (target / name).unlink()
    (target / "README.md").mkdir()
    with pytest.raises(UserError, match=r"README\.md: is a folder; expected the file to write"):
        segment.save_pretrained(target)
    assert [path.name for path in target.iterdir()] == ["README.md"]
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is not a folder"):
        segment.save_pretrained(tmp_path / "file")


def test_links_are_replaced_and_what_they_point_to_stays(segment, unnamed, folder, tmp_path):
    """Such as those of the Hub's cache."""
    kept = {}
    for name in FILES:
        (folder / name).rename(tmp_path / name)
        (folder / name).symlink_to(tmp_path / name)
        kept[name] = (tmp_path / name).read_bytes()
    deeplab_fast.Segmenter(unnamed, **FLAGS).save_pretrained(folder)
    assert {name: (tmp_path / name).read_bytes() for name in FILES} == kept
    assert not any((folder / name).is_symlink() for name in FILES)
    assert deeplab_fast.Segmenter(folder, **FLAGS).names[0] == "class 0"


def test_a_save_that_was_interrupted_is_told_and_made_again(segment, tmp_path, monkeypatch, folder):
    target = tmp_path / "net"
    with monkeypatch.context() as patch:
        patch.setattr("deeplab_fast.model.weights.model_folder._write_card", lambda *_: 1 / 0)
        other = save_network(tmp_path / "w.pt", crop_size=49)
        for place in (target, folder):
            with pytest.raises(ZeroDivisionError):
                deeplab_fast.Segmenter(other, **FLAGS).save_pretrained(place)
    with pytest.raises(UserError, match=r"config\.json: the folder was not written to its end; save"):
        deeplab_fast.Segmenter(target, **FLAGS)
    with pytest.raises(UserError, match=r"model\.safetensors: damaged, or not the weights that config\.json describes"):
        deeplab_fast.Segmenter(folder, **FLAGS)
    for place in (target, folder):
        segment.save_pretrained(place)
        assert deeplab_fast.Segmenter(place, **FLAGS).config.crop_size == 65


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").write_text("{"), r"config\.json: damaged: it holds no JSON"),
        (lambda f: (f / "config.json").write_text("[" * 100_000), r"config\.json: damaged: it holds no JSON"),
        (lambda f: change(f, format="deeplab_fast.pretrained/9"), r"config\.json: of the format .*/9; expected .*/1"),
        (lambda f: change(f, config={"crop_size": "x"}), r"config\.json: damaged configuration: --crop_size='x'"),
        (lambda f: change(f, names=["one"]), r"config\.json: damaged: 'names' does not hold the names of 3 classes"),
        (
            lambda f: (f / "model.safetensors").open("ab").write(b"x"),
            r"model\.safetensors: damaged, or not the weights",
        ),
        (lambda f: (f / "model.safetensors").unlink(), r"model\.safetensors: cannot be read \(No such file"),
    ],
)
def test_what_is_damaged_is_one_line(folder, damage, message):
    damage(folder)
    with pytest.raises(UserError, match=message) as caught:
        deeplab_fast.Segmenter(folder, **FLAGS)
    assert "\n" not in str(caught.value)


def test_another_program_s_config_json_is_passed_over(folder):
    (folder / "config.json").write_text('{"model_type": "segformer", "config": {"crop_size": 33}, "names": ["x"]}')
    found = deeplab_fast.Segmenter(folder, **FLAGS)
    assert (found.config.crop_size, found.names) == (65, tuple(NAMES))


def test_the_card_says_how_it_is_used_and_escapes_names(tmp_path, tiny):
    path = save_network(tmp_path / "w.pt", names=["a|b\n# c", "<b>", "sea"])
    card = (deeplab_fast.Segmenter(path, **FLAGS).save_pretrained(tmp_path / 'n"t') / "README.md").read_text()
    assert "library_name: deeplab_fast" in card
    assert 'from_pretrained("n\\"t")' in card
    assert "| 0 | a\\|b # c |" in card
    assert "| 1 | &lt;b> |" in card
    assert "resized to 65 pixels" in card
    assert "Evaluation" not in card


def test_tensors_are_those_of_the_network(folder):
    found = load_file(folder / "model.safetensors")
    assert found.keys() == network().state_dict().keys()
    assert all(torch.equal(found[key], tensor) for key, tensor in network().state_dict().items())
