"""Several processes of one run, started as torchrun starts them or by it."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.spawning import free_port
from tests.trials.samples import small

REPO = Path(__file__).parent.parent.parent


def start_all(
    run: Path,
    data: Path,
    *flags: str,
    count: int = 2,
    launcher: Sequence[str] = (),
    program: Sequence[str] = ("tests.faults.tiny",),
) -> list["subprocess.Popen[str]"]:
    """``count`` processes that train on the samples of ``data``; rank by place in the list.

    With a ``launcher`` (arguments of Python) the list holds that one, which starts them. ``program``: a module, and its
    arguments before the flags.
    """
    command = [sys.executable, *launcher, "-m", *program, f"--train_dir={run}", f"--data_root={data}"]
    command += [f"--data_lst={data / 'train.txt'}", *small("--batch_size=2", "--num_workers=0"), *flags]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(count)}
    places = [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    return [
        subprocess.Popen(
            command,
            cwd=REPO,
            env={**os.environ, **place},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        for place in ([{}] if launcher else places)
    ]


def child_of_rank(parent: int, rank: int) -> int:
    """The process of ``rank`` that torchrun, the process ``parent``, has started."""
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if f"RANK={rank}" in Path(f"/proc/{child}/environ").read_text().split("\0"):
            return int(child)
    raise AssertionError(f"{parent} has no process of rank {rank}")


def end_all(processes: list["subprocess.Popen[str]"]) -> None:
    """Kill what still runs, with its children."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def end(processes: list["subprocess.Popen[str]"], within_s: float) -> tuple[list[int], list[str]]:
    """Exit statuses and what went to stderr; those that do not end within the time are killed, with their children."""
    found = []
    try:
        for process in processes:
            found.append(process.communicate(timeout=within_s)[1])
    finally:
        end_all(processes)
    return [process.returncode for process in processes], found
