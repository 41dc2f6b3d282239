"""Faults at an operation on files below a folder, by a library that a program has preloaded (``fault_at.c``)."""

import ctypes
import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

SOURCE = Path(__file__).parent / "fault_at.c"
CHANGES, READS = 1, 2  # as there
KILL, FAIL, SHORT, SLOW, MOVE, REPLACE = 1, 2, 3, 4, 5, 6
ALWAYS = -1


class Fault(NamedTuple):
    """A fault at operation ``at``, counted from 1 (0: none, they are only counted), and at ``times`` of them."""

    deed: int = KILL
    error: int = 0
    at: int = 0
    times: int = 1
    kinds: int = CHANGES

    def __str__(self) -> str:
        deed = ("count", "kill", errno.errorcode.get(self.error, ""), "short", "slow", "move", "replace")[self.deed]
        times = {1: "", ALWAYS: " and all that follow"}.get(self.times, f" and the {self.times - 1} that follow")
        return f"{deed} at {('', 'change', 'read', 'operation')[self.kinds]} {self.at}{times}"

    def below(self, folder: Path) -> tuple[Any, ...]:
        """Return it as a request of the server: a fault of the first process, that counts what :class:`Ended` has."""
        return "on_rank", 0, "files", str(folder), *self


NONE = Fault()


def build_library(folder: Path) -> Path | None:
    """Build ``fault_at.c``; None where it cannot be: programs are then only killed, at Python's own operations."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    library = folder / "fault_at.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


def strike(folder: str, fault: Fault) -> Callable[[], tuple[int, list[int]]]:
    """Let the fault befall this process; returns what reads how many operations were counted, and which differ.

    Those are all but of the writes to a file, or reads, in a row: of them the first and the last.
    """
    return _by_library(folder, fault) if "LD_PRELOAD" in os.environ else _by_hook(folder, fault)


def _by_library(folder: str, fault: Fault) -> Callable[[], tuple[int, list[int]]]:
    library = ctypes.CDLL(None)
    library.fault_count.restype = ctypes.c_long
    at, times = ctypes.c_long(fault.at), ctypes.c_long(fault.times)
    library.fault_arm(os.fsencode(folder), fault.kinds, fault.deed, fault.error, at, times)

    def counted() -> tuple[int, list[int]]:
        count, goes_on = library.fault_count(), library.fault_goes_on
        return count, [n for n in range(1, count + 1) if not (goes_on(n) and n < count and goes_on(n + 1))]

    return counted


def _by_hook(folder: str, fault: Fault) -> Callable[[], tuple[int, list[int]]]:
    """Stand in for the library where it cannot be built: Python's audit events, which tell no write and no fsync."""
    assert fault.deed == KILL
    count = 0

    def on_event(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        changes = event in ("os.rename", "os.remove", "os.mkdir", "os.truncate", "os.rmdir")
        if event == "open" and isinstance(arguments[2], int):
            changes = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if changes and isinstance(arguments[0], str | bytes) and os.fsdecode(arguments[0]).startswith(folder):
            count += 1
            if count == fault.at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(on_event)
    return lambda: (count, list(range(1, count + 1)))
