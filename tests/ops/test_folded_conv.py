"""folded_conv against convolution, BatchNorm, addition and ReLU in fp64; when it is chosen; whole networks."""

import pytest
import torch
from torch.nn import functional as F

from deeplab_fast.config import ModelConfig
from deeplab_fast.model import build_model
from deeplab_fast.model.batch_norm import BatchNorm2d
from deeplab_fast.model.layers import use_fused
from deeplab_fast.ops import Folds, can_fold_bn, folded_conv, keep_folds
from deeplab_fast.ops.conv import folded_conv as folded_conv_module
from tests.ops.kernels import check_contract, relative_error

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN"),
]

# (C, K, side, kernel, stride, padding, dilation)
CASES = {
    "1x1": (16, 24, 9, 1, 1, 0, 1),
    "1x1, every second pixel": (16, 24, 9, 1, 2, 0, 1),
    "the stem": (3, 16, 33, 7, 2, 3, 1),
    "3x3": (8, 8, 9, 3, 1, 1, 1),
    "3x3, stride 2": (8, 8, 9, 3, 2, 1, 1),
    "atrous": (8, 8, 17, 3, 1, 2, 2),
    "by products": (8, 8, 17, 3, 1, 12, 12),
    "only the centre reads the map": (8, 8, 9, 3, 1, 18, 18),
    "odd channels": (5, 7, 6, 3, 1, 1, 1),
    "one pixel": (8, 8, 1, 1, 1, 0, 1),
}


# Without it a network of bf16 is computed layer by layer: tests of whole programs try that wherever they run.
NEEDS_BF16 = pytest.mark.skipif(
    not can_fold_bn(torch.zeros(1, 1, 1, 1, dtype=torch.bfloat16), training=False, fused="auto"),
    reason="oneDNN has no convolutions of bf16 on this processor",
)


def inputs(case, dtype):
    c, k, side, kernel, stride, padding, dilation = case
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, c, side, side, generator=generator).to(dtype).to(memory_format=torch.channels_last)
    weight = torch.randn(k, c, kernel, kernel, generator=generator) / (c * kernel * kernel) ** 0.5
    norm = [
        torch.rand(k, generator=generator) + 0.5 if i % 3 == 0 else torch.randn(k, generator=generator)
        for i in range(4)
    ]
    where = {"stride": (stride,) * 2, "padding": (padding,) * 2, "dilation": (dilation,) * 2}
    low = F.conv2d(x.float(), weight, **where).shape
    return x, weight, norm, where, torch.randn(low, generator=generator).to(dtype)


def plain(x, weight, norm, where, residual, relu, dtype):
    """In steps, each result rounded to ``dtype``."""
    bn_weight, bn_bias, mean, var = (t.to(torch.float64 if dtype == torch.float64 else torch.float32) for t in norm)
    y = F.conv2d(x.to(dtype), weight.to(dtype), **where)
    y = F.batch_norm(y, mean, var, bn_weight, bn_bias)
    if residual is not None:
        y = y + residual.to(dtype)
    return y.relu() if relu else y


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=NEEDS_BF16)])
@pytest.mark.parametrize(("with_residual", "relu"), [(False, True), (True, True), (False, False), (True, False)])
def test_equals_the_layers_one_by_one(case, dtype, with_residual, relu):
    x, weight, norm, where, residual = inputs(case, dtype)
    given = residual if with_residual else None
    with torch.inference_mode():
        assert can_fold_bn(x, training=False, fused="auto")
        found = folded_conv(x, weight, *norm, **where, residual=given, relu=relu)
        exact, rounded = (plain(x, weight, norm, where, given, relu, d) for d in (torch.float64, dtype))
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=torch.channels_last)
    check_contract([found], [exact], [rounded], dtype, [2])


@NEEDS_BF16
def test_autocast_chooses_the_type():
    x, weight, norm, where, _ = inputs(CASES["3x3"], torch.float32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = folded_conv(x, weight, *norm, **where)
    assert found.dtype == torch.bfloat16
    assert relative_error(found, plain(x, weight, norm, where, None, True, torch.float64)) < 0.01


def test_kept_folds_are_made_once_and_change_no_bit():
    x, weight, norm, where, _ = inputs(CASES["3x3"], torch.float32)
    folds = Folds()
    with torch.inference_mode():
        expected = folded_conv(x, weight, *norm, **where)
        for _ in range(2):
            with keep_folds(folds):
                assert torch.equal(folded_conv(x, weight, *norm, **where), expected)
                (fold,) = folds.values()
        norm[0].mul_(2)
        with keep_folds(folds):
            assert torch.equal(folded_conv(x, weight, *norm, **where), expected)
            assert folds[id(weight), torch.float32] is fold
        assert not torch.equal(folded_conv(x, weight, *norm, **where), expected)


@NEEDS_BF16
def test_folds_of_two_types_are_kept_beside_each_other():
    x, weight, norm, where, _ = inputs(CASES["3x3"], torch.float32)
    folds = Folds()
    with torch.inference_mode(), keep_folds(folds):
        for given in (x, x.bfloat16()):
            folded_conv(given, weight, *norm, **where)
    assert {dtype for _, dtype in folds} == {torch.float32, torch.bfloat16}
    assert len(folds) == 2


@pytest.mark.parametrize("has_bf16", [False, True])
def test_bf16_is_taken_where_the_processor_has_it(monkeypatch, has_bf16):
    """AVX2 alone has none: oneDNN raises there, torch's own convolution does not."""
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: has_bf16)
    folded_conv_module._dtypes.cache_clear()
    try:
        with torch.no_grad():
            assert can_fold_bn(torch.zeros(1, 1, 1, 1), False, "auto")
            assert can_fold_bn(torch.zeros(1, 1, 1, 1, dtype=torch.bfloat16), False, "auto") == has_bf16
            with torch.autocast("cpu", torch.bfloat16):
                assert can_fold_bn(torch.zeros(1, 1, 1, 1), False, "auto") == has_bf16
    finally:
        folded_conv_module._dtypes.cache_clear()


def test_when_it_is_chosen():
    x = torch.randn(1, 8, 4, 4)
    with torch.no_grad():
        assert can_fold_bn(x, False, "auto")
        assert not can_fold_bn(x, True, "auto")
        assert not can_fold_bn(x, False, "off")
        assert not can_fold_bn(x.double(), False, "auto")
        assert not can_fold_bn(x.half(), False, "auto")
        assert not can_fold_bn(x.to("meta"), False, "auto")
    assert not can_fold_bn(x, False, "auto")  # a gradient may be asked for


@pytest.mark.parametrize("head", ["recipe", "torchvision"])
@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
@pytest.mark.parametrize("output_stride", ["deeplab_v3_s16", "deeplab_v3_s8"])
def test_a_network_gives_the_same_scores(head, backbone, output_stride):
    torch.manual_seed(0)
    model = build_model(ModelConfig(backbone=backbone, num_classes=5, head=head, model=output_stride)).eval()
    for module in model.modules():
        if isinstance(module, BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                torch.nn.init.uniform_(tensor, 0.5, 1.5)
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.normal_(module.bias)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    x = torch.randn(2, 3, 65, 65).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        found = model(x)
        use_fused(model, "off")
        expected, exact = model(x), model.double()(x.double())
    model.float()
    assert not torch.equal(found, expected)  # another order of rounding: it did run
    assert relative_error(found, exact) <= max(2 * relative_error(expected, exact), 1e-5)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
