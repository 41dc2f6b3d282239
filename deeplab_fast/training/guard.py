"""A step whose loss or gradients are NaN or infinite changes nothing: decided on the device, which nobody waits for."""

from typing import cast

import torch
from torch import Tensor, nn

from ..distributed import World
from .optim import SGD


class Guard:
    """Keeps weights, momentum, BatchNorm's statistics and the loss scale as they were before the first bad step.

    A bad step stops all later ones too: the host learns of it at its next log point, and finds the state that an
    ordinary run has before that step. The update asks :attr:`halted`; what a forward pass and the loss scale change is
    kept by :meth:`keep` and put back by :meth:`restore`. All of it runs on the device and can be recorded in a CUDA
    graph. Cost: one read of the gradients, a copy of the statistics.
    """

    def __init__(self, model: nn.Module, optimiser: SGD, scaler: torch.amp.GradScaler, world: World) -> None:
        device = optimiser.rate.device
        self.halted = torch.zeros((), device=device)  # 1 from the first bad step on
        self.missed = torch.zeros((), dtype=torch.int64, device=device)  # steps that changed nothing, it and later ones
        self.world = world
        buffers = [buffer for buffer in model.buffers() if buffer.numel()]
        if scaler.is_enabled():
            scaler.scale(torch.zeros((), device=device))  # makes its tensors
            buffers += [cast(Tensor, scaler._scale), cast(Tensor, scaler._growth_tracker)]
        groups: dict[torch.dtype, list[Tensor]] = {}
        for buffer in buffers:
            groups.setdefault(buffer.dtype, []).append(buffer)
        self._kept = [(group, _flat(group)) for group in groups.values()]
        optimiser.skip = self.halted

    @torch.no_grad()
    def keep(self) -> None:
        """Copy what a forward pass and the loss scale change."""
        for tensors, kept in self._kept:
            torch._foreach_copy_(_parts(kept, tensors), tensors)

    @torch.no_grad()
    def judge(self, loss: Tensor, gradient_norm: Tensor | None) -> None:
        """Check the step's loss, this process's share of it, and the norm of its gradients, each scalar.

        From the first step on where one is none all are bad. ``gradient_norm``: None in fp16, whose gradients may
        overflow: the loss scale answers that.
        """
        bad = ~self.world.sum(loss.clone()).isfinite()
        if gradient_norm is not None:
            bad = bad | ~gradient_norm.isfinite()
        torch.maximum(self.halted, bad.to(self.halted.dtype), out=self.halted)
        self.missed += self.halted.to(self.missed.dtype)

    @torch.no_grad()
    def restore(self) -> None:
        """Put back what :meth:`keep` copied, where the step is bad."""
        for tensors, kept in self._kept:
            chosen = torch.where(self.halted > 0, kept, _flat(tensors))
            torch._foreach_copy_(tensors, _parts(chosen, tensors))

    @torch.no_grad()
    def undo(self) -> None:
        """Put back what :meth:`keep` copied, of a step that did not come to its end."""
        for tensors, kept in self._kept:
            torch._foreach_copy_(tensors, _parts(kept, tensors))


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def _parts(flat: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    """Return views of ``flat``, one of the shape of each tensor."""
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def is_finite(tensors: list[Tensor]) -> bool:
    """Tell whether no value of the tensors (any shape and floating type) is NaN or infinite. Waits for the device.

    A tensor whose norm is beyond fp32 (1e19 in a single value) counts as infinite.
    """
    if not tensors:
        return True
    return bool(torch.stack([norm.float() for norm in torch._foreach_norm(tensors)]).isfinite().all())
