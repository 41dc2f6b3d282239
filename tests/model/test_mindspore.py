"""MindSpore's checkpoints: types, slices and checksums, what is damaged, names, channel order, and the way back."""

import copy
import logging
import random
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from deeplab_fast import export
from deeplab_fast.config import ModelConfig
from deeplab_fast.errors import UserError
from deeplab_fast.evaluation.inference import trained_model
from deeplab_fast.export import ExportConfig
from deeplab_fast.model import build_model
from deeplab_fast.model.weights import (
    as_mindspore,
    load_exactly,
    load_pretrained,
    read_mindspore,
    read_weights,
    write_mindspore,
)
from deeplab_fast.model.weights import mindspore as format_module

FILES = Path(__file__).parent.parent / "mindspore_files"
WHOLE = ("dtypes", "sliced", "crc", "deeplab_v3_s16_tiny", "resnet101_classifier_tiny")


def is_weight(key):
    return not key.endswith("num_batches_tracked")


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_of_mindspore_s_gives_its_arrays(name):
    found, expected = read_mindspore(FILES / f"{name}.ckpt"), np.load(FILES / f"{name}.npz")
    assert set(found) == set(expected.files)
    for key in expected.files:
        value, wanted = found[key], expected[key]
        if isinstance(value, str):
            assert value == str(wanted)
            continue
        array = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
        assert (array.dtype, array.shape) == (wanted.dtype, wanted.shape), key
        assert array.tobytes() == wanted.tobytes(), key


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_written_is_what_mindspore_writes(name, tmp_path):
    tensors = {k: v for k, v in read_mindspore(FILES / f"{name}.ckpt").items() if isinstance(v, torch.Tensor)}
    write_mindspore(tmp_path / "x.ckpt", tensors)
    written, original = (tmp_path / "x.ckpt").read_bytes(), (FILES / f"{name}.ckpt").read_bytes()
    if name in ("crc", "deeplab_v3_s16_tiny", "resnet101_classifier_tiny"):  # of one slice a tensor, and no text
        assert written[: len(original)] == original
    again = read_mindspore(tmp_path / "x.ckpt")
    assert list(again) == list(tensors)
    for key, tensor in tensors.items():
        assert again[key].dtype == tensor.dtype
        assert (
            again[key].numpy(force=True).tobytes() == tensor.numpy(force=True).tobytes()
            if tensor.dtype != (torch.bfloat16)
            else torch.equal(again[key], tensor)
        )


def test_a_large_tensor_is_written_in_slices(tmp_path, monkeypatch):
    monkeypatch.setattr(format_module, "_SLICE", 100)
    tensors = {"a": torch.arange(90.0).view(9, 10), "b": torch.ones(())}
    write_mindspore(tmp_path / "x.ckpt", tensors)
    assert (tmp_path / "x.ckpt").read_bytes().count(b"\x0a\x01a") == 4
    again = read_mindspore(tmp_path / "x.ckpt")
    assert torch.equal(again["a"], tensors["a"])
    assert torch.equal(again["b"], tensors["b"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("truncated_mid_tensor", "byte 168,957: a field of 4,157 bytes, where 3,606 are left"),
        ("crc_flipped_content", "byte 243: the file's checksum is"),
        ("crc_truncated", "byte 191: a field of 50 bytes, where 47 are left"),
        ("flipped_length", "byte 5: "),
        ("empty", "holds no tensor"),
    ],
)
def test_a_damaged_file_is_refused_with_its_offset(name, said):
    with pytest.raises(UserError, match=said) as refused:
        read_mindspore(FILES / f"{name}.ckpt")
    assert str(refused.value).startswith(f"{FILES / name}.ckpt: ")
    assert "\n" not in str(refused.value)


def test_what_no_checksum_guards_is_read():
    assert read_mindspore(FILES / "flipped_content_no_crc.ckpt").keys() == read_mindspore(FILES / "dtypes.ckpt").keys()


def value(tag, dims, kind, content):
    """A value as protobuf has it; lengths are below 128."""
    shape = b"".join(bytes([0x08, size]) for size in dims)
    tensor = shape + bytes([0x12, len(kind)]) + kind + bytes([0x1A, len(content)]) + content
    message = bytes([0x0A, len(tag)]) + tag + bytes([0x12, len(tensor)]) + tensor
    return bytes([0x0A, len(message)]) + message


ONE = value(b"a", (2,), b"Int8", b"\x01\x02")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (value(b"a", (3,), b"Int8", b"\x01\x02"), "byte 0: 'a' is 3 of Int8 and has 2 bytes; expected 3"),
        (value(b"a", (1,), b"Int8", b"\x01\x02"), "'a' is 1 of Int8 and has 2 bytes; expected 1"),
        (ONE + ONE, "byte 19: a second tensor named 'a'"),
        (value(b"a", (3,), b"Int8", b"\x01\x02") + value(b"b", (3,), b"Int8", b"\x01\x02\x03"), "has 2 bytes"),
        (value(b"a", (4,), b"Int4", b"\x01\x02"), "'a' is of type 'Int4'; expected one of Int8"),
        (value(b"\xff", (2,), b"Int8", b"\x01\x02"), "a name that is not UTF-8"),
        (value(b"a", (0,), b"str", b"\x00\xff\x00\xff"), "no text in UTF-32"),
        (ONE + b"\x12\x00", "byte 19: no value begins here"),
        (ONE + b"\x0a\x02\x1a\x00", "map tensor"),
        (ONE + b"\x0a\x00", "a value without a tensor"),
        (ONE + b"\x0a" + b"\xff" * 11, "a number that does not end"),
        (ONE + b"\x0f\x00", "unknown kind 7"),
    ],
)
def test_what_is_no_checkpoint_is_refused(content, said, tmp_path):
    (tmp_path / "x.ckpt").write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_mindspore(tmp_path / "x.ckpt")


def test_dimensions_beyond_any_memory_are_refused(tmp_path):
    head = b"\x08" + b"\xff" * 9 + b"\x01" + b"\x08\x00"  # 2**64 - 1 by 0
    tensor = head + b"\x12\x04Int8"
    message = b"\x0a\x01a\x12" + bytes([len(tensor)]) + tensor
    (tmp_path / "x.ckpt").write_bytes(b"\x0a" + bytes([len(message)]) + message)
    with pytest.raises(UserError, match="dimensions that no array can have"):
        read_mindspore(tmp_path / "x.ckpt")


def outcome_of(path):
    """What a file is refused with, or nothing; anything but a refusal goes through."""
    try:
        read_mindspore(path)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", ["dtypes", "crc", "sliced"])
def test_flips_and_cuts_are_refused_or_read_and_nothing_else(name, tmp_path):
    original, draw = (FILES / f"{name}.ckpt").read_bytes(), random.Random(name)
    path, said = tmp_path / "x.ckpt", []
    for i in range(500):
        damaged = bytearray(original)
        if i % 3 == 0:
            del damaged[draw.randrange(len(damaged)) :]
        for _ in range(draw.randrange(1, 4) if damaged else 0):
            damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        said.append(outcome_of(path))
    assert sum(map(bool, said)) > 50
    assert not any("\n" in one for one in said)


@pytest.fixture(scope="module")
def resnet101():
    torch.manual_seed(3)
    return build_model(ModelConfig())


def test_every_name_and_shape_of_the_recipe_s_network_is_ours(resnet101):
    ours = {key: tuple(tensor.shape) for key, tensor in as_mindspore(resnet101.state_dict()).items()}
    lines = (FILES / "names_deeplab_v3_s16.txt").read_text().splitlines()
    names = [line.split(" ")[0] for line in lines if line.startswith("network.")]
    shapes = {line.split(" ")[0]: line.split("[")[1] for line in lines if line.startswith("network.")}
    assert len(names) == len(ours) == 552
    assert {key: f"{', '.join(map(str, shape))}]" for key, shape in ours.items()} == shapes


def write_zoo(path):
    """Write a ResNet-101 as the model zoo names it, its training's state beside it."""
    torch.manual_seed(5)
    lines = (FILES / "names_resnet101_model_zoo.txt").read_text().splitlines()
    tensors = {}
    for line in lines:
        key, shape = line.split(" ")[0], [int(n) for n in line.split("[")[1].strip("]").split(", ")]
        tensors[key] = torch.rand(shape)
    state = {"moments.conv1.weight": torch.zeros(64, 3, 7, 7), "global_step": torch.tensor([7])}
    write_mindspore(path, tensors | state)
    return tensors


def test_the_model_zoo_s_classifier_is_a_start_and_takes_rgb(resnet101, tmp_path, caplog):
    tensors, network = write_zoo(tmp_path / "zoo.ckpt"), copy.deepcopy(resnet101)
    with caplog.at_level(logging.INFO):
        loaded = load_pretrained(network, tmp_path / "zoo.ckpt")
    assert len(loaded) == 520
    assert torch.equal(network.backbone.conv1.weight, tensors["conv1.weight"])
    assert torch.equal(network.backbone.layer3[22].bn2.running_var, tensors["layer3.22.bn2.moving_variance"])
    assert "of its training, left out: moments.conv1 (1), global_step (1)" in caplog.text
    assert "heads not needed       end_point (2)" in caplog.text
    assert "BGR" not in caplog.text


def test_older_names_of_shortcuts_are_known(tmp_path):
    torch.manual_seed(1)
    source = build_model(ModelConfig(backbone="resnet18"))
    tensors = {k.replace("downsample", "down_sample_layer"): v for k, v in as_mindspore(source.state_dict()).items()}
    write_mindspore(tmp_path / "x.ckpt", tensors)
    target = build_model(ModelConfig(backbone="resnet18"))
    load_exactly(target, read_weights(tmp_path / "x.ckpt"))
    assert torch.equal(target.backbone.layer2[0].downsample[0].weight, source.backbone.layer2[0].downsample[0].weight)


@pytest.fixture
def ours(tmp_path):
    """A network of ours, and the same as the recipe would have saved it: fed BGR images."""
    torch.manual_seed(1)
    source = build_model(ModelConfig(backbone="resnet18", num_classes=4)).eval()
    write_mindspore(tmp_path / "recipe.ckpt", as_mindspore(source.state_dict()))
    return source, tmp_path / "recipe.ckpt"


def test_the_recipe_s_network_took_bgr_images(ours, caplog):
    source, path = ours
    raw = read_mindspore(path)["network.resnet.conv1.weight"]
    with caplog.at_level(logging.INFO):
        config, model = trained_model(ExportConfig, {"ckpt_path": str(path)})
    assert (config.backbone, config.num_classes, config.head) == ("resnet18", 4, "recipe")
    assert "the first convolution's channels turned from BGR to RGB" in caplog.text
    image = torch.randn(1, 3, 65, 65)
    assert torch.equal(model.predict(image), source.predict(image))
    # the same file, fed as the recipe feeds it
    model.backbone.conv1.weight.data.copy_(raw)
    torch.testing.assert_close(model.predict(image.flip(1)), source.predict(image), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("channels", "turned"), [("auto", True), ("bgr", True), ("rgb", False)])
def test_the_order_of_the_channels_can_be_said(ours, channels, turned):
    source, path = ours
    _, model = trained_model(ExportConfig, {"ckpt_path": str(path), "ckpt_channels": channels})
    weight = model.backbone.conv1.weight
    assert torch.equal(weight, source.backbone.conv1.weight) == turned
    assert torch.equal(weight, source.backbone.conv1.weight.flip(1)) != turned


def test_the_order_can_be_said_of_any_file(tmp_path):
    source = build_model(ModelConfig(backbone="resnet18", num_classes=4))
    torch.save(source.state_dict(), tmp_path / "w.pth")
    target = build_model(ModelConfig(backbone="resnet18", num_classes=4))
    load_pretrained(target, tmp_path / "w.pth", channels="bgr")
    assert torch.equal(target.backbone.conv1.weight, source.backbone.conv1.weight.flip(1))


def test_export_goes_back_to_the_recipe(tmp_path, capsys):
    torch.manual_seed(2)
    source = build_model(ModelConfig(backbone="resnet18", num_classes=4)).eval()
    torch.save(source.state_dict(), tmp_path / "w.pth")
    out = tmp_path / "out" / "w.ckpt"
    assert export.main([f"--ckpt_path={tmp_path}/w.pth", "--format=mindspore", f"--output={out}"]) == 0
    assert "weights equal when read back" in capsys.readouterr().out
    content = out.read_bytes()
    assert content[-17:-10] == b"crc_num"
    assert int.from_bytes(content[-10:], "big") == zlib.crc32(content[:-17])
    written = read_mindspore(out)
    assert torch.equal(written["network.resnet.conv1.weight"], source.backbone.conv1.weight.detach().flip(1))
    assert torch.equal(written["network.aspp.conv2.bias"], source.classifier[-1].bias.detach())
    assert torch.equal(
        written["network.aspp.aspp_pooling.conv.1.moving_mean"],
        source.state_dict()["classifier.0.convs.4.2.running_mean"],
    )


def test_export_refuses_a_network_that_the_recipe_does_not_have(tmp_path):
    model = build_model(ModelConfig(backbone="resnet18", num_classes=4, head="torchvision"))
    torch.save(model.state_dict(), tmp_path / "w.pth")
    flags = [f"--ckpt_path={tmp_path}/w.pth", "--format=mindspore", f"--output={tmp_path}/w.ckpt"]
    with pytest.raises(UserError, match="another head than the recipe's; expected --head=recipe"):
        export.main(flags)
    assert not (tmp_path / "w.ckpt").exists()


def test_training_starts_from_a_recipe_s_file(ours, tmp_path, caplog):
    """A file of another number of classes leaves the classifier anew."""
    _, path = ours
    target = build_model(ModelConfig(backbone="resnet18", num_classes=7))
    with caplog.at_level(logging.INFO):
        load_pretrained(target, path)
    assert "has 4 classes, this model 7: the classifier starts anew" in caplog.text


def test_a_pickle_named_ckpt_is_still_a_pickle(tmp_path):
    source = build_model(ModelConfig(backbone="resnet18", num_classes=4))
    torch.save({"state_dict": source.state_dict()}, tmp_path / "lightning.ckpt")
    assert read_weights(tmp_path / "lightning.ckpt").family.name == "torchvision"
