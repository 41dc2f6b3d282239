"""The mIoU of an exported file, by the evaluation's protocol."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import ExportConfig
from ..data.sources import Source
from ..evaluation.evaluator import evaluate
from ..evaluation.protocol import Protocol
from ..evaluation.protocols import Recipe
from ..evaluation.settings import Settings
from .network import ExportedNetwork

_SURE = 30.0  # logit of the class that a file decided for; of the others 0


class FileNetwork(nn.Module):
    """An exported file as a network that evaluation takes: normalised images to logits of their size."""

    align_corners = True  # of maps that need no upsampling

    def __init__(self, run: Callable[[Tensor], Tensor], network: ExportedNetwork, config: ExportConfig) -> None:
        super().__init__()
        self.run, self.images_as, self.config = run, network.shown, config

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``[N, C, H, W]`` of normalised images ``[N, 3, H, W]``; of classes alone, sure ones."""
        count = len(x)
        missing = max(0, self.config.batch_size - count)
        out = self.run(self.images_as(torch.cat([x, *[x[-1:]] * missing])).contiguous())[:count]
        if self.config.output_kind == "probabilities":
            return out.clamp(min=torch.finfo(out.dtype).tiny).log()
        if self.config.output_kind == "classes":
            return _SURE * F.one_hot(out.long(), self.config.num_classes).permute(0, 3, 1, 2).float()
        return out


def miou(model: nn.Module, config: ExportConfig, source: Source) -> float:
    """Measure the mIoU of ``model`` on ``source`` by the evaluation's protocol, at one scale.

    Raises:
        UserError: a sample cannot be used.
    """
    protocol = Recipe(replace(Protocol.of(config, "fp32"), crop_size=config.size or config.crop_size))
    settings = Settings(config.num_classes, config.ignore_label, torch.device("cpu"), config.batch_size or 1)
    return evaluate(model, source, protocol, settings).miou


def as_percent(score: float) -> str:
    """Return a share as a percentage; ``none`` for the mIoU of labels that hold one class or none."""
    return "none" if math.isnan(score) else f"{score:.2%}"
