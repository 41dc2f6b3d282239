"""The processes of one training run, started by torchrun; one process without it."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist

# DistributedDataParallel imports this, and its functions have the group of that moment as a default. After the group is
# made they would keep it, with gloo's threads, until Python ends; one that frees a tensor then aborts the process.
import torch.distributed.nn.functional
from torch import Tensor, nn

from ..config.whole_number import environment_number
from ..errors import UserError, first_line
from .roll_call import RollCall

# Exchanges of what the hosts know, not the devices: small, over gloo, and nothing waits for a GPU. None: the default
# group does it.
_hosts: dist.ProcessGroup | None = None

_GRACE_S = 10.0  # for the notes of the others, who see the same failure within moments
_END_S = 30  # a process whose peers are lost ends within this time, whatever its libraries still wait for


@dataclass(frozen=True)
class World:
    """One process among those of a run: ``rank`` of ``size``, ``local_rank`` on its host."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Add ``tensor``, of any shape, over all processes, in place; returns it."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def any(self, flag: bool, device: torch.device | None = None) -> bool:
        """Tell whether any process says True; waits for all of them, and for no ``device``."""
        if self.size == 1:
            return flag
        said = torch.tensor([int(flag)], dtype=torch.int32)
        dist.all_reduce(said, dist.ReduceOp.MAX, group=_hosts)
        return bool(said.item())

    def first_error(self, error: UserError | None) -> UserError | None:
        """Return the error of the first process that has one, the same on all; None where none has.

        Costs an exchange of four bytes between the hosts, and a second one only where there is an error.
        """
        if not self.any(error is not None):
            return None
        texts = self.gather(None if error is None else str(error))
        return UserError(next(text for text in texts if text is not None))

    @contextmanager
    def alike(self) -> Iterator[None]:
        """Raise on every process the :class:`UserError` that the block raises on any, the first one's."""
        error: UserError | None = None
        try:
            yield
        except UserError as caught:
            error = caught
        error = self.first_error(error)
        if error is not None:
            raise error

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let every process complete the block, or none go beyond it.

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

    def end_alike(self, error: UserError) -> NoReturn:
        """Raise an error that every process has: the main one says it, the others exit with status 2 in silence."""
        if self.is_main:
            raise error
        raise SystemExit(2)

    def gather(self, value: Any) -> list[Any]:
        """Return every process's ``value``, by rank."""
        found = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(found, value, group=_hosts)
        return found

    def share_buffers(self, module: nn.Module) -> None:
        """Give every process the main one's buffers: each kept BatchNorm statistics of its own images."""
        if self.size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            self.gather(None)


def world_from_environment() -> World:
    """Read torchrun's environment; one process where there is none.

    Raises:
        UserError: a variable of it is no such number.
    """
    size = environment_number("WORLD_SIZE", 1, least=1)
    if size == 1:
        return World()
    rank = environment_number("RANK", 0)
    if rank >= size:
        raise UserError(f"RANK={rank}: expected a number below WORLD_SIZE={size}")
    return World(rank, size, environment_number("LOCAL_RANK", 0))


@contextmanager
def process_group(world: World, device: torch.device, timeout_s: float = 300, recorded: bool = False) -> Iterator[None]:
    """Join the other processes (NCCL on GPUs, gloo on CPUs), and leave them at the end.

    ``timeout_s``: longest time to wait for another process. ``recorded``: their exchange becomes part of a CUDA graph,
    whose work NCCL's watchdog cannot ask after.

    Raises:
        UserError: a process has ended or does not answer; says which. Of those that wait for it one raises this, the
            others exit with status 2 in silence; all of them do where one that left says its own error.
    """
    if world.size == 1:
        yield
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    for name in {backend, "gloo"}:
        if not dist.is_backend_available(name):
            raise UserError(f"this torch was built without {name}, which {world.size} processes need")
    if recorded:
        os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")
    store = _meet(world, timeout_s)
    roll = RollCall(dist.PrefixStore("roll_call", store), world.rank, world.size)
    try:
        _join(backend, store, world, timeout_s)
        yield
    except BaseException as error:
        if not _is_lost(error):
            roll.leave()
            _leave()
            raise
        lost = _lost(error, roll, timeout_s)
    else:
        _leave()
        return
    finally:
        roll.end()
    raise lost


def _meet(world: World, timeout_s: float) -> dist.Store:
    """Connect to the store that torchrun's environment names, to a part of it for this attempt alone.

    torchrun's store outlives the processes that it restarts; the addresses and notes of those before are none of these.

    Raises:
        UserError: it does not answer, or not all processes come.
    """
    try:
        store, _, _ = next(
            iter(dist.rendezvous("env://", world.rank, world.size, timeout=timedelta(seconds=timeout_s)))
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"rank {world.rank} of {world.size} does not meet the others within {timeout_s:g} s (--process_timeout):"
            f" {first_line(error)}"
        ) from None
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return dist.PrefixStore(f"attempt_{attempt}", store)


def _join(backend: str, store: dist.Store, world: World, timeout_s: float) -> None:
    global _hosts
    # The hosts' exchange ends first: it can say who is missing, NCCL's watchdog can only end the process.
    limits = {"gloo": timedelta(seconds=timeout_s), "nccl": timedelta(seconds=timeout_s + 60)}
    shared = dist.PrefixStore("group", store)
    dist.init_process_group(backend, store=shared, rank=world.rank, world_size=world.size, timeout=limits[backend])
    if backend != "gloo":
        _hosts = dist.new_group(backend="gloo", timeout=limits["gloo"])


def _leave() -> None:
    global _hosts
    _hosts = None
    if dist.is_initialized():
        dist.destroy_process_group()


def _is_lost(error: BaseException) -> bool:
    """Tell whether an exchange failed: another process has ended, or did not answer in time."""
    if isinstance(error, dist.DistError):
        return True
    words = ("gloo", "Gloo", "NCCL", "Operation timed out!")  # the last of torch's own wait for an exchange
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def _lost(error: BaseException, roll: RollCall, timeout_s: float) -> BaseException:
    """Find out who is missing, and return what this process raises. The group is not left: that could wait for them."""
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_END_S)
    timed_out = any(word in str(error).lower() for word in ("timed out", "timeout"))
    missing = roll.missing(timed_out, min(_GRACE_S if timed_out else _GRACE_S / 3, timeout_s))
    if missing.is_said or not missing.speaks:
        return SystemExit(2)
    again = "what was saved stands: give the same command again to continue"
    if not missing.ranks:
        return UserError(f"the processes lost their connection ({first_line(error)}); {again}")
    waited = f"did not answer for {timeout_s:g} s (--process_timeout)"
    what = waited if missing.timed_out else "ended without a word"
    return UserError(f"{' and '.join(missing.ranks)} {what}, so all processes end; {again}")
