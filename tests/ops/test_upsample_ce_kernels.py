"""The loss kernels against fp64: every shape, gradient, weight and label that training can meet."""

import pytest
import torch

from deeplab_fast.ops import NO_LABEL, label_weight, upsample_ce, upsample_ce_per_pixel
from deeplab_fast.ops.upsampling.upsample_ce import _upsample_ce, upsample_ce_reference
from deeplab_fast.ops.upsampling.upsample_ce_per_pixel import upsample_ce_per_pixel_reference
from tests.ops.kernels import DEVICE, DTYPES, check_contract, needs_kernels, opcheck, poisoned, relative_error

pytestmark = [pytest.mark.gpu, needs_kernels]

# (N, C, h, w, H, W): each with the reason it is here
SHAPES = {
    "the recipe's ratio": (1, 21, 3, 3, 33, 33),
    "one low-resolution pixel": (2, 3, 1, 1, 17, 9),
    "odd and unequal sides": (2, 4, 3, 5, 13, 22),
    "one output row": (1, 5, 2, 6, 1, 44),
    "two classes": (1, 2, 4, 3, 17, 19),
    "150 classes": (1, 150, 2, 3, 9, 10),
    "256 classes, all that a byte names": (1, 256, 2, 2, 5, 6),
    "no upsampling": (1, 6, 5, 5, 5, 5),
    "downsampling: empty cells": (1, 8, 9, 7, 4, 3),
    "cells wider than a tile": (1, 40, 2, 2, 3, 70),
}


def inputs(shape, dtype, seed=0, scale=2.0, offset=0.0):
    n, c, h, w, height, width = shape
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(n, c, h, w, generator=generator) * scale + offset).to(dtype)
    labels = torch.randint(0, c, (n, height, width), generator=generator).to(torch.uint8)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = 255
    return logits, labels


def run(logits, labels, weights, smoothing, align_corners, wide, ignore_label=255):
    """Loss, weight and gradient: of the op (``wide`` None) or of the reference in that dtype."""
    place = DEVICE if wide is None else torch.device("cpu")
    weights = None if weights is None else weights.to(place, wide)
    logits = logits.to(place, wide).detach().requires_grad_()
    op = upsample_ce_reference if wide is not None else lambda *a: upsample_ce(*a, fused="on")
    total, weight, _ = op(logits, labels.to(place), weights, ignore_label, smoothing, align_corners)
    total.backward()
    return [total.detach(), weight, logits.grad]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_loss_and_gradient(shape, align_corners, dtype):
    logits, labels = inputs(shape, dtype)
    with poisoned():
        found = run(logits, labels, None, 0.0, align_corners, None)
    exact, plain = (run(logits, labels, None, 0.0, align_corners, wide) for wide in (torch.float64, dtype))
    check_contract(found, exact, plain, dtype, [2, 2, 3])


@pytest.mark.parametrize(
    "shape", [SHAPES[k] for k in ("odd and unequal sides", "150 classes", "cells wider than a tile")]
)
@pytest.mark.parametrize(("weighted", "smoothing"), [(True, 0.0), (False, 0.1), (True, 0.1)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_class_weights_and_smoothing(shape, weighted, smoothing, dtype):
    logits, labels = inputs(shape, dtype)
    weights = torch.linspace(0.2, 3.0, shape[1]) if weighted else None
    with poisoned():
        found = run(logits, labels, weights, smoothing, True, None)
    exact = run(logits, labels, weights, smoothing, True, torch.float64)
    plain = run(logits.float(), labels, weights, smoothing, True, torch.float32)  # torch has no mixed weights
    plain[2] = plain[2].to(dtype)
    check_contract(found, exact, plain, dtype, [2, 2, 3])


def test_large_scores():
    """Around 1e4 the largest is subtracted first, or everything overflows."""
    logits, labels = inputs((1, 21, 3, 3, 20, 20), torch.float32, scale=10.0, offset=1e4)
    found, exact, plain = (run(logits, labels, None, 0.0, True, wide) for wide in (None, torch.float64, torch.float32))
    for ours, truth, theirs in zip(found, exact, plain, strict=True):
        assert relative_error(ours, truth) <= max(2 * relative_error(theirs, truth), 1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_large_class_weight_does_not_overflow(dtype):
    """The sum of a cell's slopes, before the division by the pixels' weight, leaves the range of fp16."""
    logits, labels = inputs((1, 3, 3, 3, 33, 33), dtype)
    leaf = logits.to(DEVICE).requires_grad_()
    found = upsample_ce(leaf, labels.to(DEVICE), torch.tensor([1.0, 600.0, 1e4], device=DEVICE), fused="on")
    (found.total / found.weight).backward()
    assert leaf.grad.dtype == dtype
    assert leaf.grad.isfinite().all()
    assert leaf.grad.any()


def test_all_ignored_is_zero_and_not_nan():
    logits, labels = inputs((1, 5, 3, 3, 17, 17), torch.float32)
    total, weight, gradient = run(logits, torch.full_like(labels, 255), None, 0.1, True, None)
    assert total == 0
    assert weight == 0
    assert not gradient.any()


def test_one_valid_pixel():
    logits, labels = inputs((1, 5, 3, 3, 17, 17), torch.float32)
    labels.fill_(255)
    labels[0, 16, 3] = 4
    found, exact = (run(logits, labels, None, 0.0, True, wide) for wide in (None, torch.float64))
    check_contract(found, exact, exact, torch.float32, [1, 1, 1])


@pytest.mark.parametrize("values", [[77, 250], [-1, 2**40], [-100, 5]])
def test_labels_that_are_no_class_do_not_count_and_are_named(values):
    logits, labels = inputs((1, 5, 3, 3, 17, 17), torch.float32)
    without = labels.clone()
    without[0, 2, 3:5] = 255
    labels = labels.long()
    labels[0, 2, 3:5] = torch.tensor(values)
    found = run(logits, labels, None, 0.0, True, None)
    assert all(torch.equal(a, b) for a, b in zip(found, run(logits, without, None, 0.0, True, None), strict=True))
    largest = min(max(values), 2**31 - 1)
    for bad in (
        upsample_ce(logits.to(DEVICE), labels.to(DEVICE), fused="on").bad,
        label_weight(labels.to(DEVICE), 5, fused="on")[1],
        label_weight(labels, 5, fused="off")[1],
    ):
        assert bad.tolist() == [2, largest]
    assert label_weight(without.to(DEVICE), 5, fused="on")[1].tolist() == [0, NO_LABEL]


def test_an_ignore_label_that_is_a_class():
    logits, labels = inputs((1, 5, 3, 3, 17, 17), torch.float32)
    labels[labels == 255] = 2
    found, exact = (run(logits, labels, None, 0.0, True, wide, ignore_label=0) for wide in (None, torch.float64))
    check_contract(found, exact, exact, torch.float32, [1, 1, 1])


@pytest.mark.parametrize("view", ["channels-last", "every second row", "offset"])
def test_strided_and_offset_views(view):
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(3, 6, 6, 4, generator=generator)
    logits = {
        "channels-last": base.to(memory_format=torch.channels_last),
        "every second row": base[:, :, ::2],
        "offset": base[1:],
    }[view].to(DEVICE)
    labels = torch.randint(0, 6, (logits.shape[0], 40, 25), generator=generator)[:, ::2].to(torch.uint8)
    found, exact = (run(logits, labels, None, 0.0, True, wide) for wide in (None, torch.float64))
    check_contract(found, exact, exact, torch.float32, [1, 1, 1])
    gradient = _upsample_ce(logits, labels.to(DEVICE), None, 255, 0.0, True, True, True)[3]
    if view != "every second row":
        assert gradient.stride() == logits.stride()


@pytest.mark.parametrize("programs", [1, 40, 10**6])
def test_however_many_programs_share_a_strip(monkeypatch, programs):
    """Runs of column cells meet in the workspace: from one run to one cell a run."""
    from deeplab_fast.ops.upsampling.triton import upsample_ce as kernels

    monkeypatch.setattr(kernels, "STRIP_PROGRAMS", programs)
    logits, labels = inputs((1, 4, 3, 8, 13, 37), torch.float32)
    found, exact = (run(logits, labels, None, 0.0, False, wide) for wide in (None, torch.float64))
    check_contract(found, exact, exact, torch.float32, [1, 1, 1])


def test_the_same_bits_twice():
    logits, labels = inputs((2, 21, 3, 4, 20, 31), torch.float16)
    first, second = (run(logits, labels, None, 0.1, True, None) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("dtype", DTYPES)
def test_per_pixel(shape, dtype):
    logits, labels = inputs(shape, dtype)
    with poisoned():
        found = upsample_ce_per_pixel(logits.to(DEVICE), labels.to(DEVICE), fused="on")
    exact = upsample_ce_per_pixel_reference(logits.double(), labels, 255, True)
    check_contract([found], [exact], [exact], torch.float32, [1])
    assert not found[labels.to(DEVICE) == 255].any()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_label_weight(dtype):
    labels = torch.randint(0, 9, (2, 61, 47), generator=torch.Generator().manual_seed(0)).to(dtype).to(DEVICE)
    weights = torch.linspace(0.1, 2, 7, device=DEVICE)
    for class_weights in (None, weights):
        found = label_weight(labels, 7, class_weights, 3, fused="on")
        expected = label_weight(labels, 7, class_weights, 3, fused="off")
        assert found[0].item() == pytest.approx(expected[0].item(), rel=1e-6)
        assert torch.equal(found[1], expected[1])


def test_opcheck():
    logits, labels = (t.to(DEVICE) for t in inputs((1, 4, 3, 3, 9, 9), torch.float32))
    logits.requires_grad_()
    weights = torch.rand(4, device=DEVICE)
    opcheck("upsample_ce", (logits, labels, weights, 255, 0.1, True, True, True))
    opcheck("upsample_ce_scale", (logits.detach(), torch.tensor(0.5, device=DEVICE), torch.float16))
    opcheck("upsample_ce_per_pixel", (logits.detach(), labels, 255, True, True))
    opcheck("label_weight", (labels, 4, weights, 255))


def test_no_graph_break_under_compile():
    logits, labels = (t.to(DEVICE) for t in inputs((1, 4, 3, 3, 9, 9), torch.float32))

    def loss(logits):
        total, weight, _ = upsample_ce(logits * 2, labels, fused="on")
        return total / weight + upsample_ce_per_pixel(logits, labels, fused="on").mean()

    gradients = []
    for call in (torch.compile(loss, fullgraph=True, backend="aot_eager"), loss):
        leaf = logits.detach().clone().requires_grad_()
        call(leaf).backward()
        gradients.append(leaf.grad)
    assert torch.equal(*gradients)
