"""Processes that call a function of a test, forked from one that has imported what they need; ports to meet at."""

import multiprocessing
import socket
from collections.abc import Callable
from typing import Any

import torch.multiprocessing as mp


def in_processes(function: Callable[..., None], *args: Any, count: int = 2) -> None:
    """Call ``function(rank, *args)`` in ``count`` processes; the first that raises ends them all.

    What they are forked from imports once what would take each of them four seconds. It has the environment of its
    start.
    """
    multiprocessing.set_forkserver_preload(["tests.conftest", "deeplab_fast.training.fit"])
    mp.start_processes(function, args, nprocs=count, start_method="forkserver")


def free_port() -> int:
    """Return a port that nothing listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
