"""Training losses, as shares: the loss of a step is the sum of its micro-batches' and processes' shares."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..config import LossConfig
from ..ops import NO_LABEL, label_weight, upsample_ce, upsample_ce_per_pixel


@dataclass(frozen=True)
class LossOptions:
    """Options of a loss beyond its own configuration."""

    ignore_label: int
    align_corners: bool
    device: torch.device
    fused: str = "auto"


class Criterion(Protocol):
    """Loss of low-resolution logits ``[N, C, h, w]`` against labels ``[N, H, W]``."""

    bad: "BadLabels"

    def normaliser(self, labels: Tensor) -> Tensor:
        """Return this batch's part of the divisor that makes the step's loss a mean (scalar, fp32)."""

    def share(self, logits: Tensor, labels: Tensor, divisor: Tensor) -> Tensor:
        """Return this batch's share of the loss (scalar), given the sum of all batches' normalisers."""


class BadLabels:
    """Labels that are neither a class nor the ignore label, counted on the device and fetched at a log point."""

    def __init__(self, device: torch.device) -> None:
        self.count = torch.zeros((), dtype=torch.int64, device=device)
        self.largest = torch.full((), NO_LABEL, dtype=torch.int32, device=device)

    def add(self, bad: Tensor) -> None:
        """Count a batch's ``bad`` ``[2]``, as :func:`~deeplab_fast.ops.label_weight` gives it."""
        self.count += bad[0]
        torch.maximum(self.largest, bad[1], out=self.largest)

    def take(self) -> tuple[int, int]:
        """Return how many there were since the last call, and the largest of them. Waits for the device."""
        count, largest = torch.stack([self.count, self.largest.long()]).tolist()
        self.count.zero_()
        self.largest.fill_(NO_LABEL)
        return count, largest


def _over(total: Tensor, weight: Tensor) -> Tensor:
    """Divide (scalars); 0 where nothing weighs anything: label smoothing gives even such pixels a loss."""
    return total / weight.masked_fill(weight == 0, math.inf)


class CrossEntropy:
    """Mean over all labelled pixels of the step, over micro-batches and processes alike.

    With class weights the mean is weighted, as ``torch.nn.CrossEntropyLoss``. A step without any
    labelled pixel that weighs something has loss 0.
    """

    def __init__(self, num_classes: int, options: LossOptions, config: LossConfig) -> None:
        self.num_classes, self.options = num_classes, options
        self.smoothing = config.label_smoothing
        self.weights = torch.tensor(config.class_weights, device=options.device) if config.class_weights else None
        self.bad = BadLabels(options.device)

    def normaliser(self, labels: Tensor) -> Tensor:
        """Return the weight of the labels ``[N, H, W]`` (1 for hard examples), scalar, and count invalid ones."""
        options = self.options
        weight, bad = label_weight(labels, self.num_classes, self.weights, options.ignore_label, options.fused)
        self.bad.add(bad)
        return weight

    def share(self, logits: Tensor, labels: Tensor, divisor: Tensor) -> Tensor:
        """Return the loss's share, scalar, from logits ``[N, C, h, w]`` and labels ``[N, H, W]``."""
        options = self.options
        found = upsample_ce(
            logits,
            labels,
            self.weights,
            options.ignore_label,
            self.smoothing,
            options.align_corners,
            options.fused,
        )
        return _over(found.total, divisor)


class OnlineHardExamples:
    """Mean over each batch's hard pixels (Shrivastava et al., arXiv 1604.03540, by threshold).

    Hard: the true class's probability is below ``threshold``; where fewer than ``min_kept`` pixels
    are, the ``min_kept`` with the largest loss. Every batch of a step weighs the same.
    """

    def __init__(self, num_classes: int, options: LossOptions, config: LossConfig) -> None:
        self.num_classes, self.options = num_classes, options
        self.largest_easy_loss = -torch.log(torch.tensor(config.ohem_threshold)).item()
        self.min_kept = config.ohem_min_kept
        self.bad = BadLabels(options.device)

    def normaliser(self, labels: Tensor) -> Tensor:
        """Return the weight of the labels ``[N, H, W]`` (1 for hard examples), scalar, and count invalid ones."""
        options = self.options
        self.bad.add(label_weight(labels, self.num_classes, None, options.ignore_label, options.fused)[1])
        return torch.ones((), device=labels.device)

    def share(self, logits: Tensor, labels: Tensor, divisor: Tensor) -> Tensor:
        """Return the loss's share, scalar, from logits ``[N, C, h, w]`` and labels ``[N, H, W]``."""
        options = self.options
        hard = self.keep_hard(logits, labels)
        found = upsample_ce(logits, hard, None, options.ignore_label, 0.0, options.align_corners, options.fused)
        return _over(found.total, found.weight) / divisor

    def keep_hard(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return ``labels`` ``[N, H, W]`` with every easy pixel set to the ignore label."""
        options = self.options
        losses = upsample_ce_per_pixel(
            logits.detach(), labels, options.ignore_label, options.align_corners, options.fused
        )
        flat = losses.flatten()
        kth = flat.topk(min(self.min_kept, flat.numel())).values[-1]
        limit = torch.clamp(kth, max=self.largest_easy_loss)
        return torch.where(losses >= limit, labels, torch.full_like(labels, options.ignore_label))


def build_criterion(num_classes: int, options: LossOptions, config: LossConfig) -> Criterion:
    """Build the loss that the configuration names."""
    return (OnlineHardExamples if config.ohem else CrossEntropy)(num_classes, options, config)
