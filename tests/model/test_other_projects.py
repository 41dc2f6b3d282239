"""Networks of timm and segmentation_models_pytorch as installed: their files give their own outputs here."""

import logging

import pytest
import torch
from torch import nn

from deeplab_fast.config import ModelConfig, SegmenterConfig
from deeplab_fast.errors import UserError
from deeplab_fast.evaluation.inference import load_trained
from deeplab_fast.model import build_model
from deeplab_fast.model.weights import load_pretrained, read_weights
from tests.trials.foreign import network_of, with_statistics

CLASSES = 4


@pytest.fixture(scope="module")
def timm(torchvision_segmentation):
    return pytest.importorskip("timm")


@pytest.fixture(scope="module")
def smp(torchvision_segmentation):
    return pytest.importorskip("segmentation_models_pytorch")


@pytest.fixture(scope="module")
def resnet50():
    return build_model(ModelConfig(backbone="resnet50"))


def drawn(network):
    """``network`` with BatchNorms that are not the initial ones: timm begins the last of each block with 0."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.uniform_(module.bias, -0.1, 0.1)
    return with_statistics(network)


def close(found, expected):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def stages(backbone, image):
    """Outputs of layer1 to layer4 of a ResNet of any project."""
    x = backbone.maxpool(backbone.act1(backbone.bn1(backbone.conv1(image))))
    for stage in (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4):
        x = stage(x)
        yield x


def our_stages(backbone, image):
    x = backbone.bn1.pooled(backbone.conv1, image)
    for stage in (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4):
        x = stage(x)
        yield x


@pytest.mark.parametrize(
    ("name", "stride", "alike"),
    [("resnet18", 16, 3), ("resnet34", 8, 2), ("resnet50", 8, 4), ("resnet101", 16, 4)],
)
def test_a_backbone_of_timm_gives_its_features(timm, tmp_path, name, stride, alike):
    """timm dilates bottlenecks as torchvision does; its basic blocks otherwise from the first atrous stage on."""
    torch.manual_seed(0)
    theirs = drawn(timm.create_model(name, pretrained=False, output_stride=stride))
    torch.save(theirs.state_dict(), tmp_path / "timm.pth")
    ours = build_model(ModelConfig(backbone=name, head="torchvision", model=f"deeplab_v3_s{stride}")).eval()
    loaded = load_pretrained(ours, tmp_path / "timm.pth")
    assert len(loaded) == len(ours.backbone.state_dict())
    image = torch.randn(1, 3, 97, 65)
    with torch.no_grad():
        pairs = list(zip(our_stages(ours.backbone, image), stages(theirs, image), strict=True))
    for found, expected in pairs[:alike]:
        close(found, expected)
    for found, expected in pairs[alike:]:
        assert (found - expected).abs().max() > 1e-2 * expected.abs().max()


def test_features_only_has_a_classifier_s_names_without_the_classifier(timm, tmp_path):
    torch.manual_seed(0)
    theirs = timm.create_model("resnet18", pretrained=False, features_only=True)
    torch.save(theirs.state_dict(), tmp_path / "features.pth")
    ours = build_model(ModelConfig(backbone="resnet18"))
    assert len(load_pretrained(ours, tmp_path / "features.pth")) == len(theirs.state_dict())
    assert torch.equal(ours.backbone.layer4[1].conv2.weight, theirs["layer4"][1].conv2.weight)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet26d", "a stem of three convolutions"),
        ("seresnet50", "squeeze-and-excitation"),
        ("resnext50_32x4d", r"conv1.weight is 128x64x1x1; this model's is 64x64x1x1 \(see --backbone\)"),
        ("resnet26", "its backbone is a ResNet of 2, 2, 2, 2 bottleneck blocks"),
    ],
)
def test_another_resnet_of_timm_is_refused(timm, resnet50, tmp_path, name, said):
    with torch.device("meta"):
        shapes = timm.create_model(name, pretrained=False).state_dict()
    torch.save({key: torch.zeros(()).expand(value.shape) for key, value in shapes.items()}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=said):
        load_pretrained(resnet50, tmp_path / "w.pth")


@pytest.mark.parametrize(("encoder", "stride"), [("resnet18", 8), ("resnet18", 16), ("resnet50", 16)])
def test_a_deeplab_of_smp_gives_its_logits(smp, tmp_path, caplog, encoder, stride):
    torch.manual_seed(0)
    build = {"encoder_weights": None, "classes": CLASSES, "encoder_output_stride": stride}
    theirs = drawn(smp.DeepLabV3(encoder, **build))
    with caplog.at_level(logging.INFO):
        config, ours = network_of(theirs.state_dict(), tmp_path / "w.pth", model=f"deeplab_v3_s{stride}")
    assert (config.backbone, config.head, config.num_classes) == (encoder, "smp", CLASSES)
    image = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        close(ours.predict(image), theirs(image))


def test_what_the_save_pretrained_of_smp_writes_is_read(smp, tmp_path):
    theirs = drawn(smp.DeepLabV3("resnet18", encoder_weights=None, classes=CLASSES)).eval()
    theirs.save_pretrained(tmp_path / "smp")
    config, ours, names = load_trained(SegmenterConfig, {"ckpt_path": str(tmp_path / "smp")})
    assert (config.head, config.num_classes, names) == ("smp", CLASSES, ())
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        close(ours.predict(image), theirs(image))


def test_an_encoder_of_timm_in_smp_is_refused_whole_and_is_a_start(smp, tmp_path):
    torch.manual_seed(0)
    theirs = smp.DeepLabV3("tu-resnet18", encoder_weights=None, classes=CLASSES)
    with pytest.raises(UserError, match="another network: it has an encoder of timm"):
        network_of(theirs.state_dict(), tmp_path / "w.pth")
    ours = build_model(ModelConfig(backbone="resnet18"))
    load_pretrained(ours, tmp_path / "w.pth")
    assert torch.equal(ours.backbone.conv1.weight, theirs.encoder.model.conv1.weight)


def as_transformers(key):
    """The name that ResNetForImageClassification has for a tensor of torchvision's ResNet."""
    part, *rest = key.split(".")
    if part == "fc":
        return f"classifier.1.{rest[0]}"
    if not part.startswith("layer"):
        return f"resnet.embedder.embedder.{'convolution' if part == 'conv1' else 'normalization'}.{rest[0]}"
    block, kind, *last = rest
    stage = f"resnet.encoder.stages.{int(part[5:]) - 1}.layers.{block}"
    if kind == "downsample":
        return f"{stage}.shortcut.{('convolution', 'normalization')[int(last[0])]}.{last[1]}"
    layer = "convolution" if kind.startswith("conv") else "normalization"
    return f"{stage}.layer.{int(kind[-1]) - 1}.{layer}.{last[0]}"


@pytest.mark.parametrize(("name", "bare"), [("resnet34", True), ("resnet50", False)])
def test_a_resnet_of_transformers_is_a_start(torchvision_segmentation, tmp_path, caplog, name, bare):
    from safetensors.torch import save_file
    from torchvision.models import resnet

    torch.manual_seed(0)
    state = getattr(resnet, name)(weights=None).state_dict()
    named = {as_transformers(key): tensor for key, tensor in state.items()}
    if bare:
        named = {key.removeprefix("resnet."): tensor for key, tensor in named.items() if "classifier" not in key}
    save_file(named, tmp_path / "model.safetensors")
    assert read_weights(tmp_path / "model.safetensors").family.name == "a ResNet of Hugging Face transformers"
    ours = build_model(ModelConfig(backbone=name))
    with caplog.at_level(logging.INFO):
        load_pretrained(ours, tmp_path / "model.safetensors")
    for key, tensor in ours.backbone.state_dict().items():
        assert torch.equal(tensor, state[key]), key
    assert ("heads not needed       fc (2)" in caplog.text) is not bare


def test_a_resnet_of_paddle_is_a_start_once_it_is_safetensors(torchvision_segmentation, tmp_path, caplog):
    from safetensors.torch import save_file
    from torchvision.models import resnet

    torch.manual_seed(0)
    state = resnet.resnet18(weights=None).state_dict()
    names = {"running_mean": "_mean", "running_var": "_variance"}
    named = {}
    for key, tensor in state.items():
        module, _, last = key.rpartition(".")
        if last != "num_batches_tracked":
            named[f"{module}.{names.get(last, last)}"] = tensor.T.contiguous() if key == "fc.weight" else tensor
    save_file(named, tmp_path / "paddle.safetensors")
    ours = build_model(ModelConfig(backbone="resnet18"))
    load_pretrained(ours, tmp_path / "paddle.safetensors")
    assert torch.equal(ours.backbone.layer4[1].bn2.running_var, state["layer4.1.bn2.running_var"])
    (tmp_path / "resnet18.pdparams").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(UserError, match="a pickle of PaddlePaddle, which is not read; with Paddle itself, save"):
        read_weights(tmp_path / "resnet18.pdparams")


@pytest.mark.filterwarnings("ignore")
def test_quantised_weights_of_torchvision_are_refused(torchvision_segmentation, tmp_path):
    """As a fused, quantised ResNet names and stores them: no BatchNorm, scales beside the weights."""
    weight = torch.quantize_per_tensor(torch.randn(64, 3, 7, 7), 0.1, 0, torch.qint8)
    state = {"conv1.weight": weight, "conv1.bias": torch.zeros(64), "conv1.scale": torch.tensor(0.1)}
    torch.save(state | {"layer1.0.conv1.weight": weight}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="is quantised \\(qint8\\); expected the floating-point weights from before"):
        load_pretrained(
            nn.ModuleDict({"backbone": build_model(ModelConfig(backbone="resnet18")).backbone}),
            tmp_path / "w.pth",
            False,
            True,
        )
