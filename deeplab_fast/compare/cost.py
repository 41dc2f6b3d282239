"""The cost of a training: what both implementations are measured by."""

import os
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from deeplab_fast.runtime import peak_memory


@dataclass(frozen=True)
class Cost:
    """Wall seconds, CPU seconds of the process and its loaders, and the peak of this process's memory in bytes."""

    seconds: float
    cpu_seconds: float
    peak_memory: int


@dataclass(frozen=True)
class Training:
    """Trained weights under torchvision's keys, the steps that they took, the last loss, and the cost."""

    weights: dict[str, Tensor]
    steps: int
    loss: float
    cost: Cost


class Meter:
    """A clock that runs from its making to :meth:`read`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cpu, self._wall = _cpu_seconds(), time.perf_counter()

    def read(self) -> Cost:
        """Return the cost so far, once the device has done all that it was given."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        wall = time.perf_counter() - self._wall
        return Cost(wall, _cpu_seconds() - self._cpu, peak_memory(self._device))


def _cpu_seconds() -> float:
    """Return the CPU time of this process and of those that it started and that have ended."""
    found = os.times()
    return found.user + found.system + found.children_user + found.children_system
