"""The whole network with its kernels on against off: the same loss, gradients, statistics and state dict."""

import pytest
import torch

from deeplab_fast.config import LossConfig, ModelConfig
from deeplab_fast.loss import LossOptions, build_criterion
from deeplab_fast.model import build_model, resnet
from deeplab_fast.model.layers import BatchNorm2d, use_fused
from tests.ops.kernels import DEVICE, needs_kernels, relative_error

pytestmark = needs_kernels


def case(batch=2, crop=33, **options):
    torch.manual_seed(0)
    model = build_model(ModelConfig(num_classes=5, dropout=0.0, **options)).to(DEVICE)
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, BatchNorm2d):  # not 1 and 0, which hide mistakes
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.3, 0.3)
    images = torch.randn(batch, 3, crop, crop, generator=generator).to(DEVICE)
    labels = torch.randint(0, 5, (batch, crop, crop), generator=generator).to(torch.uint8)
    labels[torch.rand(labels.shape, generator=generator) < 0.1] = 255
    return model, images, labels.to(DEVICE)


def loss_and_gradients(model, images, labels, fused):
    use_fused(model, fused)
    model.zero_grad()
    start = {k: v.clone() for k, v in model.state_dict().items()}
    criterion = build_criterion(5, LossOptions(255, model.align_corners, images.device, fused), LossConfig())
    share = criterion.share(model(images), labels, criterion.normaliser(labels))
    share.backward()
    moved = {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(start)
    return share.detach(), {k: p.grad for k, p in model.named_parameters()}, moved


@pytest.fixture(autouse=True)
def one_block_a_stage(monkeypatch):
    """Every kind of layer, the fewest of each."""
    for name, block in (("resnet18", resnet.BasicBlock), ("resnet50", resnet.Bottleneck)):
        monkeypatch.setitem(resnet.ARCHITECTURES, name, resnet.Architecture(block, (1, 1, 1, 1)))


@pytest.mark.parametrize(
    "options",
    [
        {"backbone": "resnet18"},
        {"backbone": "resnet50"},
        {"backbone": "resnet18", "head": "torchvision", "model": "deeplab_v3_s8"},
        {"backbone": "resnet18", "freeze_bn": True},
    ],
    ids=lambda o: " ".join(map(str, o.values())),
)
@pytest.mark.no_cover
def test_loss_and_every_parameter_s_gradient(options):
    check_against_fp64(*case(**options))


@pytest.mark.no_cover
def test_the_whole_of_resnet101():
    """Residual branches that start small, as trained networks' are: else a rounding grows 5,000 times on its way."""
    model, images, labels = case(batch=3, crop=17, backbone="resnet101")
    for block in (m for m in model.modules() if isinstance(m, resnet.Bottleneck)):
        block.bn3.weight.data.mul_(0.1)
    check_against_fp64(model, images, labels)


def check_against_fp64(model, images, labels):
    # In fp64 the kernels' fp32 and torch's would both be far: each is compared with the exact one.
    loss, gradients, moved = loss_and_gradients(model, images, labels, "on")
    plain_loss, plain_gradients, plain_moved = loss_and_gradients(model, images, labels, "off")
    exact_loss, exact, exact_moved = loss_and_gradients(model.double(), images.double(), labels, "off")
    assert relative_error(loss, exact_loss) <= max(2 * relative_error(plain_loss, exact_loss), 1e-6)
    assert gradients.keys() == exact.keys()
    for name, gradient in gradients.items():
        error, plain_error = (relative_error(g, exact[name]) for g in (gradient, plain_gradients[name]))
        assert error <= max(3 * plain_error, 1e-5), f"{name}: {error:.1e}, torch {plain_error:.1e}"
    for name, value in moved.items():
        if name.endswith("num_batches_tracked"):
            assert value == exact_moved[name]
        elif "running" in name:
            plain_error = relative_error(plain_moved[name], exact_moved[name])
            assert relative_error(value, exact_moved[name]) <= max(3 * plain_error, 1e-5), name


def test_evaluation_gives_the_same_logits():
    model, images, _ = case(backbone="resnet18")
    model.eval()
    logits = []
    with torch.inference_mode():
        for fused in ("on", "off"):
            use_fused(model, fused)
            logits.append(model(images))
    assert relative_error(*logits) <= 1e-5
