import pytest
import torch
from torch.nn import functional as F

from deeplab_fast.ops import NO_LABEL, label_weight
from deeplab_fast.ops.upsampling.upsample import interpolation_matrix, upsample
from deeplab_fast.ops.upsampling.upsample_ce import upsample_ce, upsample_ce_reference
from deeplab_fast.ops.upsampling.upsample_ce_per_pixel import upsample_ce_per_pixel
from tests.ops.kernels import opcheck

pytestmark = pytest.mark.gpu

# (N, C, h, w, H, W): each with the reason it is here
SHAPES = {
    "the recipe's ratio, small": (2, 21, 5, 5, 65, 65),
    "one low-resolution pixel": (1, 3, 1, 1, 17, 9),
    "odd and unequal sides": (2, 4, 3, 7, 31, 50),
    "one output row": (1, 5, 2, 6, 1, 44),
    "two classes": (3, 2, 4, 4, 33, 33),
    "many classes": (1, 150, 3, 3, 20, 20),
    "no upsampling": (1, 6, 9, 9, 9, 9),
    "more rows than a band holds": (1, 21, 17, 17, 257, 257),
}


def case(shape, dtype=torch.float64, ignored=0.2, seed=0):
    n, c, h, w, height, width = shape
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, c, h, w, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    labels = torch.randint(0, c, (n, height, width), generator=generator).to(torch.uint8)
    labels[torch.rand(labels.shape, generator=generator) < ignored] = 255
    return logits, labels


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_agrees_with_the_reference_in_fp64(shape, align_corners, weighted, smoothing):
    logits, labels = case(shape)
    weights = torch.linspace(0.2, 3.0, shape[1]) if weighted else None
    total, weight, _ = upsample_ce(logits, labels, weights, 255, smoothing, align_corners)
    total.backward()
    actual, logits.grad = logits.grad, None
    wide = None if weights is None else weights.double()
    expected, expected_weight, _ = upsample_ce_reference(logits, labels, wide, 255, smoothing, align_corners)
    expected.backward()
    torch.testing.assert_close(total, expected, rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(actual, logits.grad, rtol=1e-10, atol=1e-11)
    assert weight == pytest.approx(expected_weight.item())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_low_precision_is_no_worse_than_plain_torch(dtype):
    logits, labels = case((2, 21, 9, 9, 129, 129), dtype)
    exact = logits.detach().double().requires_grad_()
    upsample_ce_reference(exact, labels, None, 255, 0.0, True)[0].backward()
    upsample_ce(logits, labels)[0].backward()
    ours, logits.grad = logits.grad, None
    upsample_ce_reference(logits, labels, None, 255, 0.0, True)[0].backward()
    error = lambda g: (g.double() - exact.grad).norm() / exact.grad.norm()  # noqa: E731
    assert error(ours) <= (1e-5 if dtype == torch.float32 else 3 * error(logits.grad))


def test_all_pixels_ignored_gives_zero_loss_weight_and_gradient():
    logits, labels = case((1, 3, 4, 4, 32, 32), torch.float32, ignored=2.0)
    total, weight, _ = upsample_ce(logits, labels)
    total.backward()
    assert total.item() == 0
    assert weight.item() == 0
    assert not logits.grad.any()


def test_one_valid_pixel():
    logits, labels = case((1, 3, 4, 4, 33, 33), ignored=2.0)
    labels[0, 16, 20] = 2
    total, weight, _ = upsample_ce(logits, labels)
    expected = F.cross_entropy(upsample(logits, (33, 33), True)[0, :, 16, 20], torch.tensor(2))
    assert weight.item() == 1
    torch.testing.assert_close(total, expected)


def test_a_label_that_is_no_class_does_not_count_and_is_no_index():
    logits, labels = case((1, 3, 4, 4, 32, 32), torch.float32, ignored=0.0)
    without = labels.clone()
    labels[0, :5], without[0, :5] = 77, 255
    assert upsample_ce(logits, labels)[0] == upsample_ce(logits, without)[0]
    assert upsample_ce(logits, labels)[1] == 27 * 32


@pytest.mark.parametrize("classes", [255, 256])
def test_as_many_classes_as_labels_can_name(classes):
    logits, labels = case((1, classes, 3, 3, 40, 40), torch.float32, ignored=0.0)
    total, weight, _ = upsample_ce(logits, labels, ignore_label=0)
    expected = upsample_ce_reference(logits, labels, None, 0, 0.0, True)
    assert weight.item() == (labels != 0).sum()
    assert total.item() == pytest.approx(expected.total.item(), rel=1e-5)


def test_negative_labels_do_not_count():
    logits, labels = case((1, 3, 4, 4, 32, 32), torch.float32, ignored=0.0)
    wide = labels.long()
    wide[0, :5] = -1
    labels[0, :5] = 255
    assert upsample_ce(logits, wide)[0] == upsample_ce(logits, labels)[0]


def test_autocast_does_not_reach_inside():
    logits, labels = case((1, 5, 9, 9, 65, 65), torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = upsample_ce(logits, labels)[0]
    assert inside == upsample_ce(logits, labels)[0]


def test_the_same_bits_twice():
    logits, labels = case((2, 21, 9, 9, 129, 129), torch.float32)
    totals = []
    for _ in range(2):
        logits.grad = None
        total = upsample_ce(logits, labels).total
        total.backward()
        totals.append((total.item(), logits.grad.clone()))
    assert totals[0][0] == totals[1][0]
    assert torch.equal(totals[0][1], totals[1][1])


def test_strided_logits():
    logits, labels = case((2, 6, 5, 5, 40, 40))
    wide = torch.zeros(2, 6, 10, 5, dtype=torch.float64)
    wide[:, :, ::2] = logits.detach()
    strided = wide[:, :, ::2]
    channels_last = logits.detach().to(memory_format=torch.channels_last)
    expected = upsample_ce(logits, labels)[0]
    assert upsample_ce(strided, labels)[0] == expected
    assert upsample_ce(channels_last, labels)[0] == expected


def test_per_pixel_losses_sum_to_the_total():
    logits, labels = case((2, 5, 4, 6, 33, 47), torch.float32)
    losses = upsample_ce_per_pixel(logits, labels)
    assert losses.shape == labels.shape
    assert not losses[labels == 255].any()
    assert losses.sum().item() == pytest.approx(upsample_ce(logits, labels)[0].item(), rel=1e-5)


def test_label_weight():
    labels = torch.tensor([[[0, 1, 1, 255, 9]]], dtype=torch.uint8)
    weight, bad = label_weight(labels, 3)
    assert weight.item() == 3
    assert bad.tolist() == [1, 9]
    assert label_weight(labels, 3, torch.tensor([0.5, 2.0, 7.0]))[0].item() == 4.5
    assert label_weight(labels, 10)[1].tolist() == [0, NO_LABEL]


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(("source", "target"), [(5, 65), (33, 513), (1, 7), (7, 7), (9, 4), (3, 1)])
def test_interpolation_matrix_is_torch_interpolate(source, target, align_corners):
    x = torch.randn(1, 1, source, dtype=torch.float64)
    matrix = interpolation_matrix(source, target, align_corners, torch.float64, torch.device("cpu"))
    expected = F.interpolate(x, target, mode="linear", align_corners=align_corners)
    torch.testing.assert_close(matrix @ x[0, 0], expected[0, 0], rtol=0, atol=1e-12)


def test_opcheck():
    logits, labels = case((2, 4, 3, 3, 20, 20), torch.float32)
    opcheck("upsample_ce", (logits, labels, None, 255, 0.0, True, True, False))
    opcheck("upsample_ce", (logits, labels, torch.rand(4), 255, 0.1, False, True, False))
