import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file

from deeplab_fast.config import ModelConfig
from deeplab_fast.errors import UserError
from deeplab_fast.model import build_model
from deeplab_fast.model.weights import assumed_config, infer_config, load_exactly, load_pretrained, read_weights
from deeplab_fast.model.weights.wrappers import bare_name


def model(classes=5, backbone="resnet18", **options):
    return build_model(ModelConfig(backbone=backbone, num_classes=classes, **options))


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(1)
    source = model()
    torch.save(source.state_dict(), tmp_path / "w.pth")
    return source, tmp_path / "w.pth"


def test_everything_loads(saved):
    source, path = saved
    target = model()
    load_pretrained(target, path)
    for key, value in target.state_dict().items():
        assert torch.equal(value, source.state_dict()[key])


def test_another_class_count_starts_the_classifier_anew_and_says_so(saved, caplog):
    source, path = saved
    target = model(9)
    before = target.classifier[-1].weight.clone()
    with caplog.at_level(logging.INFO):
        loaded = load_pretrained(target, path)
    assert "has 5 classes, this model 9: the classifier starts anew" in caplog.text
    assert torch.equal(target.classifier[-1].weight, before)
    assert torch.equal(target.backbone.conv1.weight, source.backbone.conv1.weight)
    assert "classifier.4.weight" not in loaded


def test_filter_weight_drops_the_classifier(saved):
    _, path = saved
    target = model()
    before = target.classifier[-1].weight.clone()
    load_pretrained(target, path, filter_weight=True)
    assert torch.equal(target.classifier[-1].weight, before)


def test_wrapped_and_prefixed(saved, tmp_path):
    source, _ = saved
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in source.state_dict().items()}, "epoch": 3}, tmp_path / "x.pth"
    )
    target = model()
    load_pretrained(target, tmp_path / "x.pth")
    assert torch.equal(target.classifier[-1].weight, source.classifier[-1].weight)


def test_zero_matched_keys_is_an_error(tmp_path):
    torch.save({"encoder.weight": torch.zeros(3)}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"no key matches this model; it holds encoder\.weight"):
        load_pretrained(model(), tmp_path / "x.pth")


def test_another_depth_is_an_error(tmp_path):
    torch.save(model(backbone="resnet50").state_dict(), tmp_path / "x.pth")
    with pytest.raises(UserError, match="--backbone"):
        load_pretrained(model(), tmp_path / "x.pth")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"PK\x03\x04broken"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_that_are_no_weights(content, suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"that can be read|damaged \(") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_weights(tmp_path / "none.pth")


def test_what_the_system_says_of_a_file_is_told(tmp_path):
    """The library calls whatever cannot be opened absent."""
    path = tmp_path / "a folder.safetensors"
    path.mkdir()
    with pytest.raises(UserError, match=r"Is a directory\)"):
        read_weights(path)


@pytest.mark.parametrize("error", [FileNotFoundError("No such file"), RuntimeError("unable to open file (5)")])
def test_a_file_that_could_not_be_opened_for_a_moment(error, saved, tmp_path, monkeypatch):
    tensors, path = torch.load(saved[1]), tmp_path / "w.safetensors"
    save_file(tensors, path)
    answers = iter([error, None])

    def load(path):
        if (failed := next(answers)) is not None:
            raise failed
        return load_file(path)

    monkeypatch.setattr("safetensors.torch.load_file", load)
    assert read_weights(path).tensors.keys() == tensors.keys()


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    torch.save({"model": Evil()}, tmp_path / "x.pth")
    with pytest.raises(UserError):
        read_weights(tmp_path / "x.pth")


@pytest.mark.parametrize("backbone", ["resnet18", "resnet34", "resnet50", "resnet101"])
@pytest.mark.parametrize("head", ["recipe", "torchvision"])
def test_tensors_tell_what_they_are_of(backbone, head, tmp_path):
    torch.save(model(7, backbone, head=head).state_dict(), tmp_path / "x.pth")
    assert infer_config(read_weights(tmp_path / "x.pth")) == {"backbone": backbone, "num_classes": 7, "head": head}


def test_a_backbone_alone_is_no_network(tmp_path):
    torch.save(model().backbone.state_dict(), tmp_path / "x.pth")
    with pytest.raises(UserError, match="holds a backbone alone"):
        load_exactly(model(), read_weights(tmp_path / "x.pth"))


def test_exact_loading_refuses_what_does_not_fit(saved):
    _, path = saved
    load_exactly(model(), read_weights(path))
    with pytest.raises(UserError, match="--num_classes"):
        load_exactly(model(6), read_weights(path))
    with pytest.raises(UserError, match=r"has no classifier\.1\.weight"):
        load_exactly(model(head="torchvision"), read_weights(path))


@pytest.mark.parametrize(
    "key",
    [
        "conv1.weight",
        "module.conv1.weight",
        "_orig_mod.module.module.conv1.weight",
        "model.net._orig_mod.conv1.weight",
        "network._fsdp_wrapped_module.conv1._checkpoint_wrapped_module.weight",
    ],
)
def test_names_without_wrappers(key):
    assert bare_name(key) == "conv1.weight"


def test_a_content_that_holds_itself_ends(tmp_path):
    content = {"epoch": 1}
    content["model"] = content
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"holds no tensor under a name; expected a state dict, found 'epoch', 'model'"):
        read_weights(tmp_path / "x.pth")


def test_an_aspp_with_other_rates_names_the_flag(saved):
    _, path = saved
    with pytest.raises(UserError, match="see --aspp_rates and --backbone"):
        load_pretrained(model(aspp_rates=(6, 12)), path)
    other = model(aspp_rates=(6, 12))
    torch.save(other.state_dict(), path)
    with pytest.raises(UserError, match="its ASPP has 2 atrous branches; give their rates with --aspp_rates"):
        assumed_config(read_weights(path), {})
    load_exactly(other, read_weights(path))


@pytest.mark.parametrize("shape", [[1 << 63, 0], [(1 << 64) - 1, 0], [0, 1 << 63]])
def test_a_safetensors_file_of_sizes_beyond_64_bits_is_refused(shape, tmp_path):
    """Hold no bytes, so that the format's own checks pass."""
    header = json.dumps({"backbone.conv1.weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(UserError, match=r"w\.safetensors: not a safetensors file that can be read \(.{1,200}\)$"):
        read_weights(tmp_path / "w.safetensors")
