"""The memory that a training step takes, counted without doing one."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..config import TrainConfig
from ..model import build_model
from ..model.layers import use_fused
from ..runtime import autocast

# Beside what a step keeps: gradients of maps, workspaces, gaps. A step of resnet101 at batch 32 and crop 513 in bf16
# took 12.6 GB on an H200 (benchmarks/results/2026-11-28-nvidia-h200), eager torchvision's 14.7; this says 17.8.
_MARGIN = 1.25
_BYTES_A_PARAMETER = 4 + 4 + 4 + 2  # itself, its gradient, its momentum, its copy in the network's precision


class StepMemory(NamedTuple):
    """Bytes that a step takes: ``fixed``, and ``per_image`` for each image of a batch."""

    fixed: int
    per_image: int

    def images_within(self, size: int) -> int:
        """Return the largest batch that ``size`` bytes hold; 0 where not even one image fits."""
        return max(0, size - self.fixed) // self.per_image


def step_memory(config: TrainConfig) -> StepMemory:
    """Count what the network keeps for the backward pass of a batch, by a forward pass without numbers, and the rest.

    The count is of torch's own operations, of which the fused ones keep no more. ``config`` has its ``crop_size`` and
    ``precision``; its ``batch_size`` does not matter.
    """
    two, four = (_saved_bytes(config, batch) for batch in (2, 4))
    logits = 4 * config.num_classes * config.crop_size**2  # of fp32, at the labels' size
    with torch.device("meta"):
        parameters = sum(p.numel() for p in build_model(config).parameters())
    each = _BYTES_A_PARAMETER + (4 if config.ema_decay else 0)
    return StepMemory(each * parameters, int(_MARGIN * (four - two) / 2) + 2 * logits)


def _saved_bytes(config: TrainConfig, batch: int) -> int:
    """Return how many bytes autograd saves in the forward pass of a batch."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # imports sympy, which most runs do not need

    saved: dict[int, Tensor] = {}  # by storage: several operations keep the same one

    def keep(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with FakeTensorMode():
        model = build_model(config).train()
        use_fused(model, "off")
        images = torch.empty(batch, 3, config.crop_size, config.crop_size)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            with autocast(config.precision, torch.device("cpu")):
                model(images)
        return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())
