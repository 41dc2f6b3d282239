"""Training losses, as shares: the loss of a step is the sum of its micro-batches' and processes' shares."""

from typing import Protocol

import torch
from torch import Tensor

from .config import LossConfig
from .ops import upsample_ce, upsample_ce_per_pixel
from .ops.upsample_ce import normaliser

_TINY = 1e-30  # divides 0 to 0 where no pixel counts


class Criterion(Protocol):
    """Loss of low-resolution logits ``[N, C, h, w]`` against labels ``[N, H, W]``."""

    def normaliser(self, labels: Tensor) -> Tensor:
        """This batch's part of the divisor that makes the step's loss a mean (0-d fp32)."""

    def share(self, logits: Tensor, labels: Tensor, divisor: Tensor) -> Tensor:
        """This batch's share of the loss, given the sum of all batches' normalisers."""


class CrossEntropy:
    """Mean over all labelled pixels of the step, over micro-batches and processes alike.

    With class weights the mean is weighted, as ``torch.nn.CrossEntropyLoss``. A step without any
    labelled pixel has loss 0.
    """

    def __init__(
        self, num_classes: int, ignore_label: int, align_corners: bool, config: LossConfig, device: torch.device
    ) -> None:
        self.num_classes, self.ignore_label, self.align_corners = num_classes, ignore_label, align_corners
        self.smoothing = config.label_smoothing
        self.weights = torch.tensor(config.class_weights, device=device) if config.class_weights else None

    def normaliser(self, labels: Tensor) -> Tensor:
        return normaliser(labels, self.num_classes, self.weights, self.ignore_label)

    def share(self, logits: Tensor, labels: Tensor, divisor: Tensor) -> Tensor:
        total, _ = upsample_ce(logits, labels, self.weights, self.ignore_label, self.smoothing, self.align_corners)
        return total / divisor.clamp(min=_TINY)


class OnlineHardExamples:
    """Mean over each batch's hard pixels (Shrivastava et al., arXiv 1604.03540, by threshold).

    Hard: the true class's probability is below ``threshold``; where fewer than ``min_kept`` pixels
    are, the ``min_kept`` with the largest loss. Every batch of a step weighs the same.
    """

    def __init__(self, num_classes: int, ignore_label: int, align_corners: bool, config: LossConfig) -> None:
        self.num_classes, self.ignore_label, self.align_corners = num_classes, ignore_label, align_corners
        self.largest_easy_loss = -torch.log(torch.tensor(config.ohem_threshold)).item()
        self.min_kept = config.ohem_min_kept

    def normaliser(self, labels: Tensor) -> Tensor:
        return torch.ones((), device=labels.device)

    def share(self, logits: Tensor, labels: Tensor, divisor: Tensor) -> Tensor:
        hard = self.keep_hard(logits, labels)
        total, kept = upsample_ce(logits, hard, None, self.ignore_label, 0.0, self.align_corners)
        return total / kept.clamp(min=_TINY) / divisor

    def keep_hard(self, logits: Tensor, labels: Tensor) -> Tensor:
        """``labels`` with every easy pixel set to the ignore label."""
        losses = upsample_ce_per_pixel(logits.detach(), labels, self.ignore_label, self.align_corners)
        flat = losses.flatten()
        kth = flat.topk(min(self.min_kept, flat.numel())).values[-1]
        limit = torch.clamp(kth, max=self.largest_easy_loss)
        return torch.where(losses >= limit, labels, torch.full_like(labels, self.ignore_label))


def build_criterion(
    num_classes: int, ignore_label: int, align_corners: bool, config: LossConfig, device: torch.device
) -> Criterion:
    """The loss that the configuration names."""
    if config.ohem:
        return OnlineHardExamples(num_classes, ignore_label, align_corners, config)
    return CrossEntropy(num_classes, ignore_label, align_corners, config, device)
