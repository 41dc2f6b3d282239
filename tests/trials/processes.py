"""Several processes of one run, started as torchrun starts them, each with an output of its own."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.trials.samples import small

REPO = Path(__file__).parent.parent.parent


def start(run: Path, data: Path, *flags: str, count: int = 2) -> list["subprocess.Popen[str]"]:
    """``count`` processes that train on the samples of ``data``; rank by place in the list."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    command = [sys.executable, "-m", "tests.faults.tiny", f"--train_dir={run}", f"--data_root={data}"]
    command += [f"--data_lst={data / 'train.txt'}", *small("--batch_size=2", "--num_workers=0"), *flags]
    return [
        subprocess.Popen(
            command,
            cwd=REPO,
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in range(count)
    ]


def end(processes: list["subprocess.Popen[str]"], within_s: float) -> tuple[list[int], list[str]]:
    """Exit statuses and what went to stderr; those that do not end within the time are killed."""
    found = []
    try:
        for process in processes:
            found.append(process.communicate(timeout=within_s)[1])
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [process.returncode for process in processes], found
