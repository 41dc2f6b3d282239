"""An exponential moving average of the weights."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from .optim import move_towards


class WeightAverage:
    """``average = decay * average + (1 - decay) * weight`` after each step; buffers are the model's own.

    Unlike ``torch.optim.swa_utils.AveragedModel`` it counts nothing on the device, so an update is a few launches that
    wait for nothing and can be recorded.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, first: bool, skip: Tensor | None = None) -> None:
        """Take in the model's weights; ``first``: begin with them as they are.

        Where ``skip`` (scalar, on the device) is 1 the average stays what it is.
        """
        ours: list[Tensor] = list(self.module.parameters())
        theirs: list[Tensor] = list(model.parameters())
        if first:
            torch._foreach_copy_(ours, theirs)
        else:
            move_towards(ours, theirs, 1 - self.decay, skip)
        for mine, other in _by_dtype(list(self.module.buffers()), list(model.buffers())):
            torch._foreach_copy_(mine, other)

    def state_dict(self) -> dict[str, Any]:
        return self.module.state_dict()

    def load_state_dict(self, content: dict[str, Any]) -> None:
        self.module.load_state_dict(content)


def _by_dtype(ours: list[Tensor], theirs: list[Tensor]) -> list[tuple[list[Tensor], list[Tensor]]]:
    """Return pairs of lists of tensors (any shapes), each of one type, which makes one launch."""
    groups: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for mine, other in zip(ours, theirs, strict=True):
        group = groups.setdefault(mine.dtype, ([], []))
        group[0].append(mine)
        group[1].append(other)
    return list(groups.values())
