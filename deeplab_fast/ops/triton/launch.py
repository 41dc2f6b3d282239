"""Launches of kernels, run or only noted: tests compile and count what was noted, without a GPU."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from .tiles import Tile


@dataclass(frozen=True)
class Launch:
    """One kernel launch. ``arguments`` are tensors, numbers and None; ``constants`` the compile-time ones."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    constants: dict[str, Any]
    tile: Tile

    def run(self) -> None:
        """Launch the kernel on the device of its tensors."""
        device = next(a.device for a in self.arguments.values() if isinstance(a, torch.Tensor))
        guard = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
        with guard:
            self.kernel[self.grid](**self.arguments, **self.constants, **self.tile.options())


_notes: list[list[Launch]] = []


def launch(kernel: Any, grid: tuple[int, ...], tile: Tile, constants: dict[str, Any], **arguments: Any) -> None:
    """Run ``kernel`` on the current stream; within :func:`record_launches`, note the launch instead."""
    made = Launch(kernel, grid, arguments, constants, tile)
    if _notes:
        _notes[-1].append(made)
    else:
        made.run()


@contextlib.contextmanager
def record_launches() -> Iterator[list[Launch]]:
    """Collect the launches made within, none of which runs; the tensors may then be on the meta device."""
    _notes.append([])
    try:
        yield _notes[-1]
    finally:
        _notes.pop()
