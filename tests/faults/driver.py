"""Runs of a tiny network, each in a process of its own, killed at a chosen file operation.

torch is imported once and each run forked from there, so that a run costs what its few steps cost. Reads lines from
stdin, ``N FOLDER FLAGS...``: kill at operation N (0: never) a run with ``--train_dir=FOLDER``; answers each with
``STATUS COUNT``: the exit status (negative: the signal) and how many operations there were.
"""

import ctypes
import os
import shlex
import signal
import sys
from pathlib import Path

import torch
import torch._dynamo  # what a run imports as it goes: here, not in each
import torch.utils.tensorboard

from deeplab_fast import train
from deeplab_fast.cli import run
from tests.faults.tiny import make_tiny


def arm_by_library(folder, at):
    """Count with the preloaded library; returns what reads the count."""
    library = ctypes.CDLL(None)
    library.fault_count.restype = ctypes.c_long
    library.fault_arm(os.fsencode(folder), ctypes.c_long(at))
    return library.fault_count


def arm_by_hook(folder, at):
    """Stand in for the library where it cannot be built: Python's audit events, which tell no write and no fsync."""
    count = 0

    def on_event(event, arguments):
        nonlocal count
        changes = event in ("os.rename", "os.remove", "os.mkdir", "os.truncate", "os.rmdir")
        if event == "open" and isinstance(arguments[2], int):
            changes = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if changes and isinstance(arguments[0], str | bytes) and os.fsdecode(arguments[0]).startswith(f"{folder}"):
            count += 1
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(on_event)
    return lambda: count


def one_run(at, folder, flags):
    """Run in a forked process; returns exit status and count."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        sys.argv = ["train", f"--train_dir={folder}", *flags]
        status = 1
        log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        arm = arm_by_library if "LD_PRELOAD" in os.environ else arm_by_hook
        count = arm(folder, at)
        try:
            run(train.main)
        except SystemExit as ended:
            status = ended.code
        finally:
            os.write(writer, str(count()).encode())
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        count = pipe.read() or "0"
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), int(count)


def main():
    torch.set_num_threads(1)
    make_tiny()
    for line in sys.stdin:
        at, folder, *flags = shlex.split(line)
        print(*one_run(int(at), Path(folder), flags), flush=True)


if __name__ == "__main__":
    main()
