"""The extension's upsample_argmax against the reference, for every instruction set and any number of threads."""

import numpy as np
import pytest
import torch

from deeplab_fast.ops import LogitsView, extension, summed_probabilities, upsample_argmax
from deeplab_fast.ops.upsampling.upsample_argmax import upsample_argmax_reference

NATIVE, REASON = extension.load()
pytestmark = pytest.mark.skipif(NATIVE is None, reason=REASON)

# (classes, low-resolution side and padded side of each view, extents of each view's images, targets)
CASES = {
    "one view, larger and smaller": (21, [(5, 33)], [[(33, 20), (10, 33)]], [(40, 25), (7, 29)]),
    "two views": (4, [(5, 33), (3, 17)], [[(33, 20), (10, 33)], [(17, 10), (5, 17)]], [(40, 25), (7, 29)]),
    "a single score, a single pixel": (3, [(1, 9)], [[(1, 1)]], [(5, 3)]),
    "to one pixel": (3, [(4, 50)], [[(50, 31)]], [(1, 1)]),
    "as many classes as fit a byte": (256, [(3, 17)], [[(17, 12)]], [(18, 20)]),
    "the size of the recipe": (21, [(33, 513)], [[(385, 513)]], [(375, 500)]),
    "two classes, wide": (2, [(9, 65)], [[(3, 65)]], [(11, 300)]),
}


def views_of(case, dtype=torch.float32):
    classes, scales, extents, targets = case
    generator = torch.Generator().manual_seed(classes)
    return [
        LogitsView(
            3 * torch.randn(len(targets), classes, low, low, generator=generator).to(dtype), size, torch.tensor(e)
        )
        for (low, size), e in zip(scales, extents, strict=True)
    ]


@pytest.fixture(params=["", "AVX-512", "AVX2", "generic"], ids=["best", "AVX-512", "AVX2", "generic"])
def instructions(request):
    NATIVE.limit_vector_extension(request.param)
    yield request.param
    NATIVE.limit_vector_extension("")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("align_corners", [True, False])
def test_classes_are_the_reference_s(case, align_corners, instructions):
    """Where the two largest differ by less than rounding, either is right."""
    views, targets = views_of(case), case[3]
    found = upsample_argmax(views, targets, align_corners)
    wide = [view._replace(logits=view.logits.double()) for view in views]
    for classes, p, target in zip(found, summed_probabilities(wide, targets, align_corners), targets, strict=True):
        assert classes.shape == target
        assert classes.dtype == torch.uint8
        lost = p.max(0).values - p.gather(0, classes.long()[None])[0]
        assert lost.max() <= 1e-5
        assert (classes == p.argmax(0)).float().mean() >= 0.999


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_scores(dtype):
    views, targets = views_of(CASES["two views"], dtype), CASES["two views"][3]
    for found, exact in zip(
        upsample_argmax(views, targets, True), upsample_argmax_reference(views, targets, True), strict=True
    ):
        assert (found == exact).float().mean() >= 0.999


def test_the_same_for_any_number_of_threads():
    case = CASES["the size of the recipe"]
    found = []
    before = torch.get_num_threads()
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        found.append(upsample_argmax(views_of(case), case[3], True)[0])
    torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found)


def test_a_tie_goes_to_the_lower_class():
    view = LogitsView(torch.zeros(1, 5, 3, 3), 17, torch.tensor([[17, 9]]))
    assert upsample_argmax([view], [(20, 20)], True)[0].eq(0).all()


def test_off_is_the_reference():
    case = CASES["two views"]
    found = upsample_argmax(views_of(case), case[3], True, fused="off")
    expected = upsample_argmax_reference(views_of(case), case[3], True)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extents": [np.array([[34, 20]], np.int32)]}, "extents: a size is out of range"),
        ({"extents": [np.array([[0, 20]], np.int32)]}, "extents: a size is out of range"),
        ({"targets": np.array([[5, 0]], np.int32)}, "targets: a size is out of range"),
        ({"out": np.zeros(19, np.uint8)}, "out: expected the targets' pixels"),
        ({"scores": [np.zeros((1, 3, 3, 257), np.float32)]}, "at most 256 classes"),
        ({"sizes": []}, "views: expected as many"),
    ],
)
def test_arguments_that_do_not_fit(change, message):
    given = {
        "scores": [np.zeros((1, 5, 5, 4), np.float32)], "sizes": [33], "extents": [np.array([[33, 20]], np.int32)],
        "targets": np.array([[4, 5]], np.int32), "align_corners": True, "threads": 1, "out": np.zeros(20, np.uint8),
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        NATIVE.upsample_argmax(**given | change)
