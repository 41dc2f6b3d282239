"""The processes of one training run, started by torchrun; one process without it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .errors import UserError


@dataclass(frozen=True)
class World:
    """This process's place: ``rank`` of ``size`` processes, ``local_rank`` on its host."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Add ``tensor`` over all processes, in place; returns it."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether any process says True; waits for all of them."""
        if self.size == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag), device=device)).item())

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block that either every process completes, or none goes beyond.

        Where it raises :class:`UserError` on some, the first of them raises it and the others exit
        with status 2 in silence: a mistake is said once, and nobody waits for those who left.
        """
        error: UserError | None = None
        try:
            yield
        except UserError as caught:
            error = caught
        failed = self.gather(error is not None)
        if any(failed) and failed.index(True) != self.rank:
            raise SystemExit(2)
        if error is not None:
            raise error

    def gather(self, value: Any) -> list[Any]:
        """Every process's ``value``, by rank."""
        found = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(found, value)
        return found

    def share_buffers(self, module: nn.Module) -> None:
        """Give every process the main one's buffers: each kept BatchNorm statistics of its own images."""
        if self.size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier()


def world_from_environment() -> World:
    """What torchrun's environment says; one process where there is none."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    return (
        World(int(os.environ.get("RANK", "0")), size, int(os.environ.get("LOCAL_RANK", "0"))) if size > 1 else World()
    )


@contextmanager
def process_group(world: World, device: torch.device, recorded: bool = False) -> Iterator[None]:
    """Join the other processes (NCCL on GPUs, gloo on CPUs), and leave them at the end.

    ``recorded``: their exchange becomes part of a CUDA graph, whose work NCCL's watchdog cannot ask after.
    """
    if world.size == 1:
        yield
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    if not dist.is_backend_available(backend):
        raise UserError(f"this torch was built without {backend}, which {world.size} processes need")
    if recorded:
        os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")
    dist.init_process_group(backend, rank=world.rank, world_size=world.size)
    try:
        yield
    finally:
        dist.destroy_process_group()
