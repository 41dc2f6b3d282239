"""Our network against torchvision's with the same weights."""

import pytest
import torch

from deeplab_fast.config import ModelConfig
from deeplab_fast.model import build_model
from deeplab_fast.model.layers import use_fused
from deeplab_fast.model.weights import load_pretrained
from tests.ops.kernels import DEVICE, needs_kernels, relative_error

pytestmark = pytest.mark.gpu


def twins(segmentation, backbone="resnet50", aux=None):
    torch.manual_seed(0)
    builder = getattr(segmentation, f"deeplabv3_{backbone}")
    theirs = builder(weights=None, weights_backbone=None, num_classes=21, aux_loss=aux)
    for module in theirs.modules():  # statistics that are not the initial ones
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    ours = build_model(ModelConfig(model="deeplab_v3_s8", backbone=backbone, head="torchvision"))
    return ours, theirs


@pytest.mark.parametrize("backbone", ["resnet50", "resnet101"])
def test_outputs_in_fp64(backbone, torchvision_segmentation):
    ours, theirs = twins(torchvision_segmentation, backbone)
    ours.load_state_dict(theirs.state_dict())  # the same keys, both ways
    theirs.load_state_dict(ours.state_dict())
    ours, theirs = ours.double().eval(), theirs.double().eval()
    x = torch.randn(1, 3, 97, 65, dtype=torch.float64)
    with torch.no_grad():
        expected, actual = theirs(x)["out"], ours.predict(x)
    assert (actual - expected).abs().max() <= 1e-9 * expected.abs().max().clamp(min=1)


@needs_kernels
def test_fused_kernels_take_and_give_torchvision_s_weights(torchvision_segmentation):
    ours, theirs = twins(torchvision_segmentation)
    ours.load_state_dict(theirs.state_dict())
    ours.to(DEVICE).eval()
    theirs.double().eval()
    use_fused(ours, "on")
    x = torch.randn(2, 3, 33, 33)
    with torch.inference_mode():
        found = ours.predict(x.to(DEVICE))
        exact = theirs(x.double())["out"]
    assert relative_error(found, exact) <= 1e-5
    theirs.load_state_dict(ours.state_dict())


@pytest.mark.long
def test_training_gradients_in_fp64(torchvision_segmentation):
    ours, theirs = twins(torchvision_segmentation)
    ours.load_state_dict(theirs.state_dict())
    ours, theirs = ours.double().train(), theirs.double().train()
    for model in (ours, theirs):
        for module in model.modules():
            if type(module).__name__ == "Dropout":
                module.p = 0.0
    x = torch.randn(2, 3, 65, 65, dtype=torch.float64)
    ours.predict(x).square().mean().backward()
    theirs(x)["out"].square().mean().backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-6, atol=1e-12)
    running = dict(theirs.named_buffers())
    for name, buffer in ours.named_buffers():
        torch.testing.assert_close(buffer, running[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_backbone_keys_are_torchvision_s(backbone, torchvision_segmentation):
    from torchvision.models import resnet

    theirs = {k for k in getattr(resnet, backbone)(weights=None).state_dict() if not k.startswith("fc.")}
    ours = build_model(ModelConfig(backbone=backbone)).backbone.state_dict()
    assert set(ours) == theirs


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_torchvision_files_load(suffix, torchvision_segmentation, tmp_path, caplog):
    """A DeepLabV3 with its auxiliary head, and a bare ResNet."""
    from safetensors.torch import save_file
    from torchvision.models import resnet

    ours, theirs = twins(torchvision_segmentation, aux=True)
    files = {"deeplab": theirs.state_dict(), "resnet": resnet.resnet50(weights=None).state_dict()}
    for name, state in files.items():
        path = tmp_path / f"{name}{suffix}"
        torch.save(state, path) if suffix == ".pth" else save_file(state, path)
        loaded = load_pretrained(ours, path)
        prefix = "backbone." if name == "resnet" else ""
        assert len(loaded) == sum(not k.startswith(("fc.", "aux_classifier.")) for k in state)
        for key, value in ours.state_dict().items():
            source = state.get(key.removeprefix(prefix)) if key.startswith(prefix) else None
            if source is not None:
                assert torch.equal(value, source)
