"""Memory that a process may take."""

import os
import sys
from pathlib import Path

import torch

from ..config.whole_number import environment_number

_MEMINFO = Path("/proc/meminfo")
_STATUS = Path("/proc/self/status")
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))  # of a container


def usable_memory(device: torch.device) -> int:
    """Return how many bytes a process may fill with tensors on ``device``.

    On a GPU nine tenths of what is free. On a CPU half of what the machine or the container has, and at most half of
    what is free, shared by the processes that torchrun started on this host.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] * 9 // 10
    return host_memory() // 2 // environment_number("LOCAL_WORLD_SIZE", 1, least=1)


def host_memory() -> int:
    """Return the bytes that the machine has free, or that the container may use where those are fewer."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    found += [number for path in _LIMITS if (number := _first_number(path)) is not None]
    available = _available()
    return min(found if available is None else [*found, available])


def _first_number(path: Path) -> int | None:
    try:
        return int(path.read_text().split()[0])
    except (OSError, ValueError, IndexError):  # no such file, or "max"
        return None


def _available() -> int | None:
    """Return what Linux holds for free, caches included; None elsewhere."""
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def peak_memory(device: torch.device) -> int:
    """Return the most bytes that this process has held so far: of tensors on a GPU, else resident in memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:  # getrusage also counts what the program that started this one held
        lines = _STATUS.read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
