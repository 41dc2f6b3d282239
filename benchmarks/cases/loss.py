"""The loss and the classes from low-resolution logits."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from deeplab_fast.ops import LogitsView, upsample_argmax, upsample_ce

from .kernel import EAGER, OURS, Case, KernelsConfig, activation, gradients, sides, widen, with_compiled

IGNORE = 255


def loss_case(config: KernelsConfig, device: torch.device, dtype: torch.dtype, classes: int) -> Case:
    low, high = sides(config.crop_size)["layer4 out"][0], config.crop_size
    logits = activation((config.batch_size, classes, low, low), dtype, device).requires_grad_()
    labels = torch.randint(0, classes, (config.batch_size, high, high), dtype=torch.uint8, device=device)
    labels[torch.rand(labels.shape, device=device) < 0.05] = IGNORE
    long_labels = labels.long()  # torch's loss wants int64: converted outside the timing, in its favour

    def ours() -> list[Tensor]:
        total, weight, _ = upsample_ce(logits, labels, fused="on")
        return gradients(total / weight, [logits], torch.ones((), device=device))

    def by_torch(leaf: Tensor) -> list[Tensor]:
        wide = leaf if leaf.dtype == torch.float64 else leaf.float()  # as autocast does
        full = F.interpolate(wide, (high, high), mode="bilinear", align_corners=True)
        loss = F.cross_entropy(full, long_labels, ignore_index=IGNORE)
        return gradients(loss, [leaf], torch.ones_like(loss))

    def exact() -> list[Tensor]:
        return by_torch(widen(logits))

    name = f"upsample_ce, {classes} classes, {low} -> {high}, forward and backward"
    return Case(name, with_compiled(config, ours, lambda: by_torch(logits)), exact)


def argmax_case(config: KernelsConfig, device: torch.device, dtype: torch.dtype, views: int) -> Case:
    low, high = sides(config.crop_size)["layer4 out"][0], config.crop_size
    target = (high * 3 // 4, high)
    extents = torch.tensor([target] * config.batch_size)
    logits = [activation((config.batch_size, 21, low, low), dtype, device) for _ in range(views)]
    seen = [LogitsView(one, high, extents) for one in logits]
    targets = [(h - 1, w - 13) for h, w in [target] * config.batch_size]
    steps: dict[str, Callable[[], Any]] = {
        OURS: lambda: upsample_argmax(seen, targets, True, "on"),
        EAGER: lambda: upsample_argmax(seen, targets, True, "off"),
    }
    return Case(f"upsample_argmax, {views} views, 21 classes, {low} -> {high} -> {targets[0]}", steps)
