"""The whole network with its kernels on against off: the same loss, gradients, statistics and state dict."""

import contextlib

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from deeplab_fast.config import LossConfig, ModelConfig
from deeplab_fast.model import batch_norm, build_model, resnet
from deeplab_fast.model.batch_norm import BatchNorm2d
from deeplab_fast.model.convolve import convolve
from deeplab_fast.model.layers import use_fused
from deeplab_fast.ops import DeferredNorm
from deeplab_fast.ops.conv import route
from deeplab_fast.ops.conv.route import Route
from deeplab_fast.ops.layout import is_pixel_major, pixel_major
from deeplab_fast.training.loss import LossOptions, build_criterion
from tests.ops.kernels import DEVICE, needs_kernels, relative_error

pytestmark = [pytest.mark.gpu, needs_kernels]


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
def test_loss_and_every_parameter_s_gradient(options):
    model, images, labels = case(batch=5, crop=17, **options)
    check_against_fp64(with_small_branches(model), images, labels)


def test_the_library_s_convolutions_between_our_normalisations(monkeypatch):
    """As ``auto`` has it on a GPU for most of them: a block's output has two readers, and layer4 is pixel-major."""
    asked = []

    def plan(conv, x, fused, defers, pixel_major=None):
        if pixel_major is None:
            asked.append(conv)
        return Route.ATROUS if pixel_major else Route.LIBRARY

    monkeypatch.setattr(route, "plan", plan)
    model, images, labels = case(batch=5, crop=17, backbone="resnet50")
    with noted_calls(monkeypatch, DeferredNorm, "apply_shared") as twice:
        check_against_fp64(with_small_branches(model), images, labels)
    assert len(asked) > 10
    assert len(twice) == 2  # of layer2 and layer3: layer1 reads the stem, layer4 what is stored anew


def test_3x3_convolutions_as_products(monkeypatch):
    """As ``auto`` has it where a measurement put them ahead: in layer4 of maps stored pixel-major."""
    for name, runs in (("runs_product_1x1", True), ("runs_atrous", False), ("runs_product_3x3", True)):
        monkeypatch.setattr(route, name, lambda *_, runs=runs: runs)
    rates, real = [], batch_norm.conv_bn
    stored = []

    def record_launches(before, *given, rate, **options):
        if rate:
            rates.append(rate)
            stored.append(is_pixel_major(before.y))
        return real(before, *given, rate=rate, **options)

    monkeypatch.setattr(batch_norm, "conv_bn", record_launches)
    model, images, labels = case(batch=5, crop=17, backbone="resnet50")
    check_against_fp64(with_small_branches(model), images, labels)
    assert rates == [1, 2]  # of layer1 and layer4: those of layer2 and layer3 have a stride
    assert stored == [False, True]


@contextlib.contextmanager
def noted_calls(monkeypatch, of, name):
    calls, real = [], getattr(of, name)
    monkeypatch.setattr(of, name, lambda *given: calls.append(given) or real(*given))
    yield calls


@pytest.mark.parametrize("stored", [pixel_major, lambda x: x.to(memory_format=torch.channels_last)])
@pytest.mark.parametrize("conv", [nn.Conv2d(8, 5, 1, bias=False), nn.Conv2d(8, 5, 3, padding=1, bias=False)])
def test_a_convolution_of_either_layout(stored, conv):
    """A 1x1 convolution keeps pixel-major maps so, whose values and gradients are the same."""
    conv = conv.to(DEVICE)
    x = stored(torch.randn(2, 8, 4, 3, device=DEVICE))
    dy = torch.randn(2, 5, 4, 3, device=DEVICE)
    results = []
    for run in (conv, lambda x: convolve(conv, x)):
        leaf = x.detach().requires_grad_()
        y = run(leaf)
        results.append((y.detach(), *torch.autograd.grad(y, [leaf, conv.weight], dy)))
    for ours, plain in zip(*results[::-1], strict=True):
        torch.testing.assert_close(ours, plain)
    assert is_pixel_major(results[1][0]) == (stored is pixel_major and conv.kernel_size == (1, 1))


def gradients_and_activations(model, x, again, monkeypatch):
    """Every parameter's gradient, and how many normalised activations are there between the two passes."""
    use_fused(model, "on", again)
    model.zero_grad()
    made, real = [], DeferredNorm.apply

    def apply(self, **options):
        z = real(self, **options)
        made.append(StorageWeakRef(z.untyped_storage()))
        return z

    with monkeypatch.context() as patch:
        patch.setattr(DeferredNorm, "apply", apply)
        before = model(x)
        kept = sum(not one.expired() for one in made)
        y = before.apply()
        y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(DEVICE))
    return {name: p.grad for name, p in model.named_parameters()}, kept


@pytest.mark.parametrize("ours", [False, True], ids=["library", "ours"])
def test_activations_that_are_made_again(ours, monkeypatch):
    for name in ("runs_product_1x1", "runs_atrous"):
        monkeypatch.setattr(route, name, lambda *_: ours)
    torch.manual_seed(0)
    model = nn.Sequential(resnet.Bottleneck(16, 8, 2, 1), resnet.Bottleneck(32, 8, 1, 2)).to(DEVICE)
    x = torch.randn(3, 16, 9, 9, device=DEVICE).to(memory_format=torch.channels_last)
    usual, kept = gradients_and_activations(model, x, False, monkeypatch)
    found, kept_again = gradients_and_activations(model, x, True, monkeypatch)
    # Two of each block; our last 1x1 convolution normalises on the way in, and makes nothing that is counted here.
    assert kept - kept_again == (2 if ours else 4)
    for name, gradient in found.items():
        if ours:
            assert relative_error(gradient, usual[name]) <= 1e-5, name
        else:
            assert torch.equal(gradient, usual[name]), name


@pytest.mark.slow
def test_the_whole_of_resnet101():
    model, images, labels = case(batch=5, crop=17, backbone="resnet101")
    check_against_fp64(with_small_branches(model), images, labels)


def with_small_branches(model):
    """As trained networks' are: else a rounding grows up to 5,000 times on its way, or changes a ReLU's side."""
    for block in (m for m in model.modules() if isinstance(m, resnet.Bottleneck)):
        block.bn3.weight.data.mul_(0.1)
    return model


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
