"""upsample_argmax: evaluation's last step, plain and in the kernel."""

import pytest
import torch
from torch.nn import functional as F

from deeplab_fast.ops import LogitsView, upsample_argmax
from deeplab_fast.ops.upsampling.upsample_argmax import (
    summed_probabilities,
    upsample_argmax_reference,
    upsample_softmax,
)
from tests.ops.kernels import DEVICE, DTYPES, needs_kernels, opcheck

pytestmark = pytest.mark.gpu

# scales as (low-resolution side, padded side); extents and targets of two images
SCALES = [(5, 33), (3, 17)]
EXTENTS = torch.tensor([[[33, 20], [10, 33]], [[17, 10], [5, 17]]])
TARGETS = [(40, 25), (7, 29)]


def views_of(classes, dtype, scales=2, device="cpu"):
    generator = torch.Generator().manual_seed(classes)
    return [
        LogitsView((2 * torch.randn(2, classes, low, low, generator=generator)).to(dtype).to(device), size, extents)
        for (low, size), extents in zip(SCALES[:scales], EXTENTS, strict=False)
    ]


def test_upsample_softmax_crops_before_resizing():
    logits = torch.randn(4, 5, 5)
    out = upsample_softmax(logits, 33, (33, 20), (50, 31), True)
    full = F.interpolate(logits[None], (33, 33), mode="bilinear", align_corners=True).softmax(1)[..., :20]
    expected = F.interpolate(full, (50, 31), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(out.sum(0), torch.ones(50, 31))


def test_summed_over_views():
    views = views_of(4, torch.float32)
    found = list(summed_probabilities(views, TARGETS, True))
    for i, target in enumerate(TARGETS):
        parts = [upsample_softmax(v.logits[i], v.size, tuple(v.extents[i].tolist()), target, True) for v in views]
        torch.testing.assert_close(found[i], parts[0] + parts[1])
        assert torch.equal(upsample_argmax(views, TARGETS, True)[i], found[i].argmax(0).to(torch.uint8))


@needs_kernels
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("classes", "align_corners", "scales"), [(2, True, 1), (2, False, 2), (21, True, 2), (21, False, 1), (256, True, 1)]
)
def test_kernel_gives_the_reference_s_classes(dtype, classes, align_corners, scales):
    """Where the two best differ by less than rounding, either is right."""
    if classes == 256 and dtype != DTYPES[0]:
        pytest.skip("256 classes, slow to interpret: once")
    views = views_of(classes, dtype, scales)
    on_device = [view._replace(logits=view.logits.to(DEVICE)) for view in views]
    found = upsample_argmax(on_device, TARGETS, align_corners, fused="on")
    exact = summed_probabilities([v._replace(logits=v.logits.float()) for v in views], TARGETS, align_corners)
    for ours, p, target in zip(found, exact, TARGETS, strict=True):
        assert ours.shape == target
        assert ours.dtype == torch.uint8
        chosen = p.gather(0, ours.cpu().long()[None])[0]
        assert (p.amax(0) - chosen).max() <= 1e-6


@needs_kernels
def test_at_the_views_own_size_scores_decide():
    views = [views_of(21, torch.float32, 1)[0]._replace(extents=torch.tensor([[33, 33]] * 2))]
    targets = [(33, 33)] * 2
    on_device = [view._replace(logits=view.logits.to(DEVICE)) for view in views]
    for ours, expected in zip(
        upsample_argmax(on_device, targets, True, fused="on"),
        upsample_argmax_reference(views, targets, True),
        strict=True,
    ):
        assert (ours.cpu() != expected).sum() <= 1


@needs_kernels
def test_a_tie_goes_to_the_lower_class():
    view = LogitsView(torch.zeros(1, 5, 3, 3, device=DEVICE), 9, torch.tensor([[9, 9]]))
    assert not upsample_argmax([view], [(9, 9)], True, fused="on")[0].any()
    assert not upsample_argmax([view, view], [(12, 5)], True, fused="on")[0].any()


@needs_kernels
def test_opcheck():
    views = views_of(4, torch.float32, device=DEVICE)
    scores, sizes = [view.logits for view in views], [33, 33, 17, 17]
    targets = [side for target in TARGETS for side in target]
    opcheck("upsample_argmax", (scores, sizes, EXTENTS.to(torch.int32), targets, True, False))
