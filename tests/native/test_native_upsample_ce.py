"""The extension's upsample_ce against the reference in fp64."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from deeplab_fast.ops import extension
from deeplab_fast.ops.upsampling.upsample import upsample
from deeplab_fast.ops.upsampling.upsample_ce import upsample_ce_reference

NATIVE = extension.load()[0]
pytestmark = pytest.mark.skipif(NATIVE is None, reason="the extension is not built or switched off")

# (N, C, h, w, H, W): each with the reason it is here
SHAPES = {
    "the recipe's ratio, small": (2, 21, 5, 5, 65, 65),
    "the recipe's ratio at output stride 8": (1, 21, 9, 9, 65, 65),
    "one low-resolution pixel": (1, 3, 1, 1, 17, 9),
    "odd and unequal sides": (2, 4, 3, 7, 31, 50),
    "one output row": (1, 5, 2, 6, 1, 44),
    "one output column": (1, 5, 6, 2, 44, 1),
    "one output pixel": (2, 3, 4, 4, 1, 1),
    "two classes": (3, 2, 4, 4, 33, 33),
    "many classes": (1, 150, 3, 3, 20, 20),
    "as many classes as a byte names": (1, 256, 3, 4, 40, 40),
    "no upsampling": (1, 6, 9, 9, 9, 9),
    "downsampling: cells without pixels": (2, 5, 20, 17, 7, 6),
    "more columns between two pixels than lanes": (1, 7, 3, 3, 90, 150),
    "more rows between two pixels than a group": (1, 4, 1, 2, 75, 20),
}
EXTENSIONS = ["", "AVX-512", "AVX2", "generic"]


@pytest.fixture(params=EXTENSIONS, ids=[name or "best" for name in EXTENSIONS])
def instructions(request):
    """Holds the loops down to an instruction set."""
    NATIVE.limit_vector_extension(request.param)
    yield request.param
    NATIVE.limit_vector_extension("")


NONE_BAD = -(2**63)


def case(shape, ignored=0.2, seed=0):
    n, c, h, w, height, width = shape
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, c, h, w, generator=generator)
    labels = torch.randint(0, c, (n, height, width), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < ignored] = 255
    return logits, labels


def native(logits, labels, weights=None, ignore=255, smoothing=0.0, align_corners=True, threads=2):
    """(total, weight, bad count, bad value), gradient [N, C, h, w]; the gradient's memory is NaN before."""
    pixels_last = logits.permute(0, 2, 3, 1).contiguous()
    gradient = torch.full_like(pixels_last, torch.nan)
    class_weights = None if weights is None else weights.numpy()
    found = NATIVE.upsample_ce(
        pixels_last.numpy(),
        labels.numpy(),
        class_weights,
        ignore,
        smoothing,
        align_corners,
        threads,
        gradient.numpy(),
    )
    return found, gradient.permute(0, 3, 1, 2)


def exact(logits, labels, weights=None, ignore=255, smoothing=0.0, align_corners=True):
    """(total, weight), gradient; in fp64."""
    wide = logits.double().requires_grad_()
    class_weights = None if weights is None else weights.double()
    total, weight, _ = upsample_ce_reference(wide, labels, class_weights, ignore, smoothing, align_corners)
    total.backward()
    return (total.item(), weight.item()), wide.grad


def assert_agrees(found, expected, loss=1e-6, slope=1e-5):
    (total, weight, bad_count, bad_value), gradient = found
    (exact_total, exact_weight), exact_gradient = expected
    assert total == pytest.approx(exact_total, rel=loss, abs=1e-9)
    assert weight == pytest.approx(exact_weight, rel=1e-6)
    assert (bad_count, bad_value) == (0, NONE_BAD)
    error = gradient.double() - exact_gradient
    assert error.norm() <= slope * exact_gradient.norm()
    assert error.abs().max() <= 10 * slope * exact_gradient.abs().max()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_agrees_with_the_reference(shape, align_corners, weighted, smoothing, instructions):
    logits, labels = case(shape)
    arguments = {
        "weights": torch.linspace(0.2, 3.0, shape[1]) if weighted else None,
        "smoothing": smoothing,
        "align_corners": align_corners,
        "ignore": 255 if shape[1] < 256 else 0,
    }
    found = native(logits, labels.to(torch.uint8), **arguments)
    assert_agrees(found, exact(logits, labels, **arguments))
    wide, gradient = native(logits, labels, **arguments)
    assert wide == found[0]
    assert torch.equal(gradient, found[1])


@pytest.mark.parametrize(
    ("scale", "offset"),
    [(30.0, 0.0), (1e4, 0.0), (1.0, 1e4), (1.0, -1e4)],
    ids=["far apart", "further than exponentials reach", "one large offset", "one large negative offset"],
)
def test_large_logits(scale, offset, instructions):
    logits, labels = case((2, 21, 5, 5, 65, 65))
    logits = logits * scale + offset
    for smoothing in (0.0, 0.1):
        assert_agrees(native(logits, labels, smoothing=smoothing), exact(logits, labels, smoothing=smoothing))


def test_logits_that_mask_a_class():
    """-1e9 as some write for "never": its exponential is 0, and its gradient."""
    logits, labels = case((1, 5, 4, 4, 33, 33), ignored=0.0)
    logits[:, 3] = -1e9
    labels[labels == 3] = 0
    found = native(logits, labels)
    assert_agrees(found, exact(logits, labels))
    assert not found[1][:, 3].any()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_loss_that_is_no_number_is_no_number(value):
    logits, labels = case((1, 5, 4, 4, 33, 33))
    logits[0, 2, 1, 1] = value
    found, gradient = native(logits, labels)
    assert np.isnan(found[0])
    assert gradient.isnan().any()


def test_all_pixels_ignored():
    logits, labels = case((1, 3, 4, 4, 32, 32), ignored=2.0)
    found, gradient = native(logits, labels, smoothing=0.1)
    assert found == (0, 0, 0, NONE_BAD)
    assert not gradient.any()


def test_one_valid_pixel():
    logits, labels = case((1, 3, 4, 4, 33, 33), ignored=2.0)
    labels[0, 16, 20] = 2
    found, gradient = native(logits, labels)
    expected = F.cross_entropy(upsample(logits, (33, 33), True)[0, :, 16, 20], torch.tensor(2))
    assert found[0] == pytest.approx(expected.item(), rel=1e-6)
    assert found[1] == 1
    assert_agrees((found, gradient), exact(logits, labels))


def test_flat_labels():
    """Real label maps are flat: whole vectors of one class, and borders between two."""
    logits, _ = case((2, 21, 9, 9, 129, 129))
    labels = torch.zeros(2, 129, 129, dtype=torch.int64)
    labels[:, 20:90, 33:101] = 7
    labels[:, 100:, 40:] = 255
    assert_agrees(native(logits, labels), exact(logits, labels))


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_the_same_bits_for_any_number_of_threads(threads):
    logits, labels = case((3, 21, 9, 7, 100, 77))
    labels[1, 50] = 99
    labels[2, 3, 3] = 88
    one, gradient = native(logits, labels, smoothing=0.1, threads=1)
    several, other = native(logits, labels, smoothing=0.1, threads=threads)
    assert one == several
    assert torch.equal(gradient, other)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_labels_that_are_no_class_are_counted_and_named(dtype):
    logits, labels = case((2, 3, 4, 4, 32, 32), ignored=0.1)
    without = labels.clone()
    labels[0, 20, 5], labels[0, 20, 4], labels[1, 0, 0] = 78, 77, 79
    for place in ((0, 20, 5), (0, 20, 4), (1, 0, 0)):
        without[place] = 255
    found, gradient = native(logits, labels.to(dtype))
    expected, expected_gradient = native(logits, without.to(dtype))
    assert found == (*expected[:2], 3, 79)
    assert torch.equal(gradient, expected_gradient)


@pytest.mark.parametrize("value", [-1, -100, 3, 2**40, -(2**63), 256])
def test_labels_that_are_no_byte(value):
    logits, labels = case((1, 3, 4, 4, 32, 32))
    ignored = labels.clone()
    labels[0, :5], ignored[0, :5] = value, 255
    expected, _ = native(logits, ignored)
    assert native(logits, labels)[0] == (*expected[:2], 5 * 32, value)
    others = labels.masked_fill(labels == 255, value)
    assert native(logits, others, ignore=value)[0] == expected


def test_an_ignore_label_that_is_no_byte_ignores_no_byte():
    logits, labels = case((1, 3, 4, 4, 32, 32), ignored=0.0)
    assert native(logits, labels.to(torch.uint8), ignore=-100)[0] == native(logits, labels)[0]
    assert native(logits, labels.to(torch.uint8), ignore=256 + 1)[0] == native(logits, labels)[0]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("align_corners", [True, False])
def test_per_pixel(shape, align_corners, instructions):
    logits, labels = case(shape)
    ignore = 255 if shape[1] < 256 else 0
    losses = torch.full(labels.shape, torch.nan)
    arguments = (logits.permute(0, 2, 3, 1).contiguous().numpy(), labels.numpy(), ignore, align_corners)
    assert NATIVE.upsample_ce_per_pixel(*arguments, 3, losses.numpy()) == (0, NONE_BAD)
    full = upsample(logits.double(), labels.shape[1:], align_corners)
    expected = F.cross_entropy(full, labels, reduction="none", ignore_index=ignore)
    torch.testing.assert_close(losses.double(), expected, rtol=2e-6, atol=2e-6)
    assert not losses[labels == ignore].any()


def test_per_pixel_names_labels_that_are_no_class():
    logits, labels = case((1, 3, 4, 4, 32, 32), ignored=0.0)
    labels[0, 9, 9] = -7
    losses = torch.full(labels.shape, torch.nan)
    pixels_last = logits.permute(0, 2, 3, 1).contiguous().numpy()
    assert NATIVE.upsample_ce_per_pixel(pixels_last, labels.numpy(), 255, True, 2, losses.numpy()) == (1, -7)
    assert losses[0, 9, 9] == 0


def test_shapes_and_types_are_checked():
    logits, labels = np.zeros((1, 2, 2, 3), np.float32), np.zeros((1, 4, 4), np.uint8)
    rest = (None, 255, 0.0, True, 1)
    with pytest.raises(ValueError, match="labels"):
        NATIVE.upsample_ce(logits, np.zeros((2, 4, 4), np.uint8), *rest, np.zeros_like(logits))
    with pytest.raises(ValueError, match="gradient"):
        NATIVE.upsample_ce(logits, labels, *rest, np.zeros((1, 2, 3, 3), np.float32))
    with pytest.raises(ValueError, match="class_weights"):
        NATIVE.upsample_ce(logits, labels, np.ones(4, np.float32), *rest[1:], np.zeros_like(logits))
    with pytest.raises(TypeError, match="uint8 or int64"):
        NATIVE.upsample_ce(logits, labels.astype(np.int32), *rest, np.zeros_like(logits))
    with pytest.raises(ValueError, match="classes"):
        NATIVE.upsample_ce(np.zeros((1, 2, 2, 257), np.float32), labels, *rest, np.zeros((1, 2, 2, 257), np.float32))
