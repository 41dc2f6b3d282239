"""Memory of batches that are finished on the CPU."""

import weakref
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class BatchMemory:
    """Memory for batches, used again once nobody holds a tensor of it: fresh pages cost as much as resampling."""

    def __init__(self, native: ModuleType) -> None:
        self._native = native
        self._free: dict[int, list[NDArray[np.uint8]]] = {}

    def take(self, size: int) -> Tensor:
        """Return uninitialised bytes, uint8 ``[size]``.

        Their memory comes back when the tensor's storage is freed, views and all.
        """
        free = self._free.setdefault(size, [])
        try:
            memory = free.pop()
        except IndexError:
            memory = np.empty(size, np.uint8)
            self._native.prefer_large_pages(memory.ctypes.data, size)
        lent = memory.view()  # the tensor's storage keeps this array alive, and nothing else does
        weakref.finalize(lent, free.append, memory).atexit = False
        return torch.from_numpy(lent)
