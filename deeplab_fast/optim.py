"""SGD as the recipe sets it, and learning rates as plain functions of the step."""

import math

import torch
from torch import nn

from .config import OptimiserConfig


def learning_rate(config: OptimiserConfig, step: int, total_steps: int) -> float:
    """Rate of update ``step`` (from 0) of ``total_steps``.

    * cos: ``base * 0.5 * (1 + cos(pi * t / T))``
    * poly: ``base * (1 - t / T) ** 0.9``
    * exp: ``base * rate ** floor(t / lr_decay_step)``

    The first ``warmup_steps`` scale it by ``(t + 1) / warmup_steps``.
    """
    if config.lr_type == "cos":
        rate = config.base_lr * 0.5 * (1 + math.cos(math.pi * step / total_steps))
    elif config.lr_type == "poly":
        rate = config.base_lr * (1 - step / total_steps) ** 0.9
    else:
        rate = config.base_lr * config.lr_decay_rate ** (step // config.lr_decay_step)
    if step < config.warmup_steps:
        rate *= (step + 1) / config.warmup_steps
    return rate


def build_optimiser(model: nn.Module, config: OptimiserConfig) -> torch.optim.SGD:
    """SGD with momentum; weight decay on every parameter, BatchNorm's included; one fused update."""
    return torch.optim.SGD(
        model.parameters(), lr=config.base_lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True
    )
