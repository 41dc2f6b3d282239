"""Weights of others: which network they are of, what may stand beside them, what of them is used."""

import argparse
import logging
import os
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch._utils import _rebuild_tensor_v2
from torch.nn import functional as F

from benchmarks.peers import Torchvision
from deeplab_fast import train
from deeplab_fast.config import ModelConfig
from deeplab_fast.errors import UserError
from deeplab_fast.evaluation.inference import trained_model
from deeplab_fast.model import build_model
from deeplab_fast.model.weights import load_exactly, load_pretrained, read_weights
from deeplab_fast.predict import PredictConfig
from deeplab_fast.storage.pickle_sizes import asks_too_much
from tests.trials.foreign import assert_same_outputs, bare_model, network_of, with_statistics
from tests.trials.samples import CLASSES, small


def train_briefly(samples, tmp_path, weights, *flags):
    data = [f"--data_root={samples}", f"--data_lst={samples}/train.txt", f"--train_dir={tmp_path / 'run'}"]
    train.main([*small(*data, "--max_steps=1", "--eval_epochs=0", f"--ckpt_pre_trained={weights}", *flags)])


@pytest.fixture(scope="module")
def network():
    return bare_model()


class Malicious:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_c2_arguments_and_numpy_numbers_beside_the_weights(tmp_path):
    own = bare_model()
    beside = {
        "args": argparse.Namespace(lr=0.1, out=Path("runs"), nested=argparse.Namespace(n=np.int64(3))),
        "best_score": np.float64(0.77),
        "flags": [np.bool_(True), np.float32(0.5), np.uint8(3)],
        "per_class": np.linspace(0, 1, 21),
    }
    allowed = set(torch.serialization.get_safe_globals())
    _, ours = network_of({"model_state": own.state_dict(), "cur_itrs": 30000, **beside}, tmp_path / "w.pth")
    assert_same_outputs(ours, own.predict)
    # The same classes stay forbidden elsewhere, and nothing hidden among them is executed.
    assert set(torch.serialization.get_safe_globals()) == allowed
    for place in ("args", "best_score"):
        command = f"touch {tmp_path}/executed"
        hidden = argparse.Namespace(x=Malicious(command)) if place == "args" else Malicious(command)
        words = r"holds more than tensors and plain values, \S+\.system; save a state_dict"
        with pytest.raises(UserError, match=words):
            network_of({"model_state": own.state_dict(), **beside, place: hidden}, tmp_path / "bad.pth")
    assert not (tmp_path / "executed").exists()


def renamed(state, *pairs):
    for old, new in pairs:
        state = {new + key.removeprefix(old) if key.startswith(old) else key: value for key, value in state.items()}
    return state


def wrapped_in(prefix):
    return lambda state: {f"{prefix}{key}": value for key, value in state.items()}


WRAPPINGS = {
    "model_state_dict": lambda state: {"epoch": 3, "model_state_dict": state, "loss": torch.tensor(0.5)},
    "net": lambda state: {"net": state, "acc": 91.2},
    "state_dict in model": lambda state: {"model": {"state_dict": state}},
    "Lightning": lambda state: {
        "state_dict": {**wrapped_in("model.")(state), "criterion.weight": torch.ones(3)},
        "pytorch-lightning_version": "2.4.0",
        "hyper_parameters": {"lr": 0.1},
    },
    "Lightning, DDP, compiled": lambda state: {"state_dict": wrapped_in("net._orig_mod.module.model.")(state)},
    "compiled backbone": lambda state: renamed(state, ("backbone.", "backbone._orig_mod.")),
    "averaged": lambda state: {
        "state_dict": {key: torch.zeros_like(value) for key, value in state.items()},
        "state_dict_ema": wrapped_in("module.")(state),
    },
    "torchvision's averaged": lambda state: {
        "model": {key: torch.zeros_like(value) for key, value in state.items()},
        "model_ema": {"n_averaged": torch.tensor(5), **wrapped_in("module.")(state)},
    },
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_c3_wrappers_are_peeled(wrapping, network, tmp_path, caplog):
    state = network.state_dict()
    content = WRAPPINGS[wrapping](state)
    with caplog.at_level(logging.INFO):
        _, ours = network_of(content, tmp_path / "w.ckpt")
    for key, value in ours.state_dict().items():
        assert torch.equal(value, state[key]), key
    if wrapping == "Lightning":
        assert "not used, as it stands beside the network: criterion (1)" in caplog.text
    if "averaged" in wrapping:
        assert "_ema'; also there: '" in caplog.text


def test_c3_two_networks_in_one_state_dict_are_refused(tmp_path):
    state = bare_model().state_dict()
    both = {**wrapped_in("model.")(state), **wrapped_in("net.")(state)}
    with pytest.raises(UserError, match=r"holds both model\.backbone\S+ and net\.backbone\S+; expected one network"):
        network_of({"state_dict": both}, tmp_path / "w.ckpt")


class LikeSmp(nn.Module):
    """segmentation_models_pytorch's DeepLabV3 at stride 8, from torchvision's parts, under its names."""

    def __init__(self):
        super().__init__()
        from torchvision.models import resnet
        from torchvision.models.segmentation.deeplabv3 import ASPP

        self.encoder = resnet.resnet18(weights=None)
        del self.encoder.fc
        for stage, rate in ((self.encoder.layer3, 2), (self.encoder.layer4, 4)):
            for conv in (m for m in stage.modules() if isinstance(m, nn.Conv2d)):
                size = conv.kernel_size[0]
                conv.stride, conv.dilation, conv.padding = (1, 1), (rate, rate), (size // 2 * rate,) * 2
        parts = OrderedDict(aspp=ASPP(512, [12, 24, 36]), conv=nn.Conv2d(256, 256, 3, padding=1, bias=False))
        self.decoder = nn.Sequential(OrderedDict(**parts, bn=nn.BatchNorm2d(256), relu=nn.ReLU()))
        self.segmentation_head = nn.Sequential(nn.Conv2d(256, CLASSES, 1))

    def forward(self, x):
        e, size = self.encoder, x.shape[-2:]
        x = e.maxpool(e.relu(e.bn1(e.conv1(x))))
        x = self.segmentation_head(self.decoder(e.layer4(e.layer3(e.layer2(e.layer1(x))))))
        return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def test_c3_segmentation_models_pytorch(torchvision_segmentation, tmp_path, caplog):
    torch.manual_seed(0)
    theirs = with_statistics(LikeSmp())
    content = {"state_dict": wrapped_in("model.")(theirs.state_dict())}
    with caplog.at_level(logging.INFO):
        config, ours = network_of(content, tmp_path / "w.ckpt")
    assert (config.head, config.model, config.backbone) == ("smp", "deeplab_v3_s8", "resnet18")
    assert "as segmentation_models_pytorch has it" in caplog.text
    assert_same_outputs(ours, theirs, (96, 64))
    of_timm = renamed(theirs.state_dict(), ("encoder.", "encoder.model."))
    with pytest.raises(UserError, match="another network: it has an encoder of timm"):
        network_of(of_timm, tmp_path / "w.ckpt")


def test_c3_deeplabv3plus_pytorch_at_its_stride(torchvision_segmentation, tmp_path, caplog):
    torch.manual_seed(0)
    theirs = with_statistics(Torchvision("resnet50", CLASSES, "deeplab_v3_s16"))
    state = renamed(theirs.state_dict(), ("classifier.", "classifier.classifier."))
    content = {"model_state": state, "cur_itrs": 30000, "best_score": np.float64(0.7)}
    with caplog.at_level(logging.INFO):
        _, ours = network_of(content, tmp_path / "w.pth")
    assert "output stride 16, ASPP rates 6/12/18, as VainF/DeepLabV3Plus-Pytorch has it" in caplog.text
    assert_same_outputs(ours, theirs)


def mmsegmentation(stem="plain"):
    """Names and shapes of a mmsegmentation DeepLabV3 around our ResNet-18."""
    state = {k: v for k, v in bare_model().state_dict().items() if k.startswith("backbone.")}
    if stem == "deep":
        state = {f"backbone.stem.{i}.weight": torch.zeros(32, 32, 3, 3) for i in (0, 3, 6)} | {
            k: v for k, v in state.items() if "backbone.conv1" not in k and "backbone.bn1" not in k
        }
    state["decode_head.image_pool.1.conv.weight"] = torch.zeros(512, 512, 1, 1)
    state["decode_head.aspp_modules.0.conv.weight"] = torch.zeros(512, 512, 1, 1)
    state["decode_head.bottleneck.conv.weight"] = torch.zeros(512, 2560, 3, 3)
    state["decode_head.conv_seg.weight"] = torch.zeros(CLASSES, 512, 1, 1)
    return {"meta": {"CLASSES": ("a", "b", "c")}, "state_dict": state}


def test_c3_mmsegmentation_gives_its_backbone_alone(samples, tmp_path, caplog):
    with pytest.raises(UserError, match="another network: it has mmsegmentation's ASPP, whose last convolution is 3x3"):
        network_of(mmsegmentation(), tmp_path / "w.pth")
    with caplog.at_level(logging.INFO):
        train_briefly(samples, tmp_path, tmp_path / "w.pth")
    assert "backbone layer4        25 of 25" in caplog.text
    assert "decode_head." in caplog.text
    torch.save(mmsegmentation("deep"), tmp_path / "v1c.pth")
    with pytest.raises(UserError, match="another backbone: it has a stem of three convolutions"):
        train_briefly(samples, tmp_path / "deep", tmp_path / "v1c.pth")


def test_c4_too_few_tensors_are_an_error_unless_allowed(samples, tmp_path, caplog):
    weights = tmp_path / "w.pth"
    torch.save({"conv1.weight": torch.randn(64, 3, 7, 7)}, weights)
    with pytest.raises(UserError, match=r"fills 1 of 100 tensors of the backbone; expected at least 90%.*--allow_par"):
        train_briefly(samples, tmp_path, weights)
    with caplog.at_level(logging.INFO):
        train_briefly(samples, tmp_path, weights, "--allow_partial=True")
    assert "backbone stem          1 of 5; the others start anew" in caplog.text
    assert "backbone layer4        0 of 25; starts anew" in caplog.text


def test_c4_another_depth_is_named(samples, tmp_path):
    """A ResNet-101 fills every tensor of a ResNet-50: names and shapes alone do not tell them apart."""
    with torch.device("meta"):
        shapes = build_model(ModelConfig(backbone="resnet101")).backbone.state_dict()
    deep = {key: torch.zeros(()).expand(tensor.shape) for key, tensor in shapes.items()}
    torch.save(deep, tmp_path / "w.pth")
    words = "its backbone is resnet101, this model's resnet50; --backbone=resnet101 fits"
    with pytest.raises(UserError, match=words):
        train_briefly(samples, tmp_path, tmp_path / "w.pth", "--backbone=resnet50")


def test_c4_a_classifier_behind_another_head_starts_anew(samples, tmp_path, caplog):
    torch.save(bare_model(head="torchvision").state_dict(), tmp_path / "w.pth")
    with caplog.at_level(logging.INFO):
        train_briefly(samples, tmp_path, tmp_path / "w.pth")
    assert "has a 3x3 convolution before its classifier, unlike this model: the classifier starts anew" in caplog.text
    assert "classifier             0 of 2; starts anew (another head)" in caplog.text


def negative(weight):
    return -weight.abs()


KEY = "backbone.layer1.0.conv1.weight"
KINDS = {
    "sparse": (KEY, torch.Tensor.to_sparse, "is a sparse_coo tensor; expected a dense one"),
    "meta": (KEY, lambda w: w.to("meta"), "is a meta tensor without values"),
    "quantised": (KEY, lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8), r"is quantised \(qint8\)"),
    "complex": (KEY, lambda w: torch.complex(w, w), r"is complex \(complex64\); expected real weights"),
    "whole numbers": (KEY, lambda w: w.to(torch.int8), "is of type int8; expected float32"),
    "bool": (KEY, lambda w: w > 0, "is of type bool; expected float32"),
    "8 bit": (KEY, lambda w: w.to(torch.float8_e4m3fn), "is of type float8_e4m3fn; expected float32"),
    "65 dimensions": (KEY, lambda w: w.reshape(*w.shape, *[1] * 61), "has 65 dimensions; expected at most 4"),
    "NaN": (KEY, lambda w: w * float("nan"), "holds NaN or infinity"),
    "too large": (KEY, lambda w: w.double() * 1e300, "holds NaN or infinity"),
    "variance": ("backbone.bn1.running_var", negative, "holds a variance below 0"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_c5_what_is_no_weight_is_refused_in_one_line(kind, network, tmp_path):
    key, broken, words = KINDS[kind]
    state = dict(network.state_dict())
    state[key] = broken(state[key])
    torch.save(state, tmp_path / "w.pth")
    for use in (load_pretrained, lambda model, path: load_exactly(model, read_weights(path))):
        with pytest.raises(UserError, match=words) as caught:
            use(network, tmp_path / "w.pth")
        assert str(caught.value).startswith(f"{tmp_path / 'w.pth'}: {key} ")
        assert "\n" not in str(caught.value)


def test_c5_half_and_double_precision_are_converted_and_it_is_said(tmp_path, caplog):
    own = bare_model().half()
    with caplog.at_level(logging.INFO):
        _, ours = network_of(own.state_dict(), tmp_path / "w.pth")
    assert f"{len(list(own.parameters())) + 2 * 26} float16 tensors become float32" in caplog.text
    for key, value in ours.state_dict().items():
        assert torch.equal(value, own.state_dict()[key].to(value.dtype))


def test_e6_prefixes_are_taken_off_in_any_order_and_as_often_as_they_occur(tmp_path):
    torch.manual_seed(1)
    state = build_model(ModelConfig(backbone="resnet18", num_classes=3)).state_dict()
    for prefix in ("module._orig_mod.", "module.module.", "_orig_mod.module._orig_mod."):
        torch.save({prefix + key: value for key, value in state.items()}, tmp_path / "w.pth")
        assert read_weights(tmp_path / "w.pth").tensors.keys() == state.keys()
    torch.save({f"_orig_mod.module.{key}": value for key, value in state.items()}, tmp_path / "w.pth")
    _, ours = trained_model(PredictConfig, {"ckpt_path": str(tmp_path / "w.pth")})
    for key, value in ours.state_dict().items():
        assert torch.equal(value, state[key]), key


class Reduced:
    def __init__(self, function, *parts):
        self.parts = (function, *parts)

    def __reduce__(self):
        return self.parts


@pytest.mark.parametrize(
    ("code", "state"),
    [
        ("f8", (3, "<", None, None, None, -1, -1, 63)),  # flags of a type that holds pointers
        ("f8", (3, "<", None, None, None, 10**9, 1, 0)),
        ("V8", (3, "|", None, ("a",), {"a": (np.dtype("f8"), 10**9)}, 8, 1, 0)),
        ("O", (3, "|", None, None, None, -1, -1, 63)),
    ],
)
def test_c2_numpy_types_that_are_none_of_plain_numbers_are_refused(code, state, tmp_path):
    """Numpy takes such types from a pickle, and would use bytes of the file as addresses."""
    kind = Reduced(np.dtype, (code, False, True), state)
    make_scalar, make_array = np.float64(0).__reduce__()[0], np.zeros(1).__reduce__()[0]
    array = Reduced(make_array, (np.ndarray, (0,), b"b"), (1, (2,), kind, False, bytes(16)))
    for beside in (Reduced(make_scalar, (kind, bytes(8))), array):
        torch.save({"model": {"conv1.weight": torch.zeros(1)}, "best": beside}, tmp_path / "w.pth", pickle_protocol=2)
        with pytest.raises(UserError, match="not a checkpoint that can be read"):
            read_weights(tmp_path / "w.pth")


def test_c2_weights_that_a_file_hardly_holds_are_refused(tmp_path):
    """A kilobyte that would take 640 GB once its values are wanted."""
    torch.save({"conv1.weight": torch.zeros(1).expand(400_000, 400_000)}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"conv1\.weight is 400000x400000, of which 4 bytes are stored"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("sides", [(2, 0, -1), (256, 3, 0, (1 << 63) - 1), (1 << 24, 0, 1 << 25)])
def test_c2_sides_of_no_tensor_are_refused(sides, tmp_path):
    """Torch takes any beside a side of 0, and raises where the values are wanted."""
    parts = (torch.zeros(1)._typed_storage(), 0, sides, (1,) * len(sides), False, OrderedDict())
    torch.save({"conv1.weight": Reduced(_rebuild_tensor_v2, parts)}, tmp_path / "w.pth")
    said = "x".join(map(str, sides))
    with pytest.raises(UserError, match=rf"conv1\.weight is {said}; expected the sides of a tensor"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("kind", [torch.UntypedStorage, bytearray])
def test_c2_a_file_that_asks_for_more_memory_than_there_can_be_is_refused(kind, tmp_path):
    content = {"conv1.weight": torch.zeros(1), "beside": Reduced(kind, ((1 << 63) - 1,))}
    torch.save(content, tmp_path / "w.pth", pickle_protocol=2)
    with pytest.raises(UserError, match=r"w\.pth: not a checkpoint that can be read \(damaged, cut short, or"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("said", ["", "tried to allocate 4096 bytes"])
def test_c2_memory_that_ends_says_nothing_of_a_file(said, tmp_path, monkeypatch):
    def ends(*_, **__):
        raise MemoryError(said)

    torch.save({"conv1.weight": torch.zeros(1), "seed": (1 << 63) - 1}, tmp_path / "w.pth")
    monkeypatch.setattr(torch, "load", ends)
    with pytest.raises(MemoryError):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("damage", ["cut", "flipped", "no zip"])
def test_c2_memory_that_ends_over_a_damaged_file_is_said_to_have_ended(damage, tmp_path):
    torch.save({"x": torch.zeros(1), "y": bytearray(9)}, tmp_path / "w.pth", pickle_protocol=2)
    content = bytearray((tmp_path / "w.pth").read_bytes())
    if damage == "flipped":
        content[content.index(b"\x80\x02}")] ^= 0xFF
    (tmp_path / "w.pth").write_bytes({"cut": content[:-40], "flipped": content, "no zip": b"\x80\x02}."}[damage])
    assert not asks_too_much(tmp_path / "w.pth", MemoryError())
