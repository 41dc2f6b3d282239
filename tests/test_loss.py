import pytest
import torch
from torch.nn import functional as F

from deeplab_fast.config import LossConfig
from deeplab_fast.ops import upsample
from deeplab_fast.training.loss import LossOptions, build_criterion

CPU = torch.device("cpu")


def case(classes=4, ignored=0.3):
    torch.manual_seed(0)
    logits = torch.randn(3, classes, 5, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, classes, (3, 33, 33), dtype=torch.uint8)
    labels[torch.rand(labels.shape) < ignored] = 255
    return logits, labels


def loss_of(config, logits, labels, parts=1):
    criterion = build_criterion(logits.shape[1], LossOptions(255, True, CPU), config)
    chunks = list(zip(logits.chunk(parts), labels.chunk(parts), strict=True))
    divisor = torch.stack([criterion.normaliser(y) for _, y in chunks]).sum()
    return sum(criterion.share(x, y, divisor) for x, y in chunks)


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize(
    "config",
    [LossConfig(), LossConfig(class_weights=(0.5, 1.0, 2.0, 4.0)), LossConfig(label_smoothing=0.1)],
    ids=["plain", "weighted", "smooth"],
)
def test_mean_over_all_pixels_however_the_batch_is_cut(config, parts):
    logits, labels = case()
    loss = loss_of(config, logits, labels, parts)
    weights = torch.tensor(config.class_weights, dtype=torch.float64) if config.class_weights else None
    full = upsample(logits, (33, 33), True)
    expected = F.cross_entropy(full, labels.long(), weights, ignore_index=255, label_smoothing=config.label_smoothing)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-8)
    gradients = [torch.autograd.grad(v, logits, retain_graph=True)[0] for v in (loss, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("config", [LossConfig(), LossConfig(class_weights=(1.0,) * 4), LossConfig(ohem=True)])
def test_all_ignored_is_zero_and_not_nan(config):
    logits, labels = case(ignored=2.0)
    loss = loss_of(config, logits, labels)
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_pixels_whose_class_weighs_nothing_count_for_nothing():
    """Label smoothing gives even them a loss, and there is nothing to divide it by."""
    config = LossConfig(class_weights=(0.0, 2.0, 1.0), label_smoothing=0.1)
    criterion = build_criterion(3, LossOptions(255, False, torch.device("cpu")), config)
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    labels = torch.zeros(1, 5, 5, dtype=torch.uint8)
    loss = criterion.share(logits, labels, criterion.normaliser(labels))
    loss.backward()
    assert loss == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("min_kept", [1, 500, 10**6])
def test_ohem(min_kept):
    """Against the definition, over sorted per-pixel losses."""
    logits, labels = case()
    config = LossConfig(ohem=True, ohem_threshold=0.3, ohem_min_kept=min_kept)
    loss = loss_of(config, logits, labels)
    full = upsample(logits, (33, 33), True)
    losses = F.cross_entropy(full, labels.long(), ignore_index=255, reduction="none")[labels != 255]
    hard = losses.exp() >= 1 / 0.3
    kept = losses.sort(descending=True).values[:min_kept] if hard.sum() < min_kept else losses[hard]
    assert kept.numel() < losses.numel() or min_kept == 10**6
    torch.testing.assert_close(loss, kept.mean(), rtol=1e-6, atol=1e-8)
