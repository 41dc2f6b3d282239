"""Faults that a process puts into itself before a program begins; each may return what reads its count at the end."""

import errno
import faulthandler
import functools
import importlib
import os
import resource
import signal
import sys
import time
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from deeplab_fast import signals
from deeplab_fast.errors import UserError
from deeplab_fast.ops import extension
from deeplab_fast.training import step as step_module
from tests.faults import file_faults

ERRORS = {
    "MemoryError": MemoryError,
    "OutOfMemoryError": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.\nMore advice"),
    "RuntimeError": lambda: RuntimeError("a kernel failed\nmore"),
    "UserError": lambda: UserError("a mistake"),
    "disk full": lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "no memory": lambda: OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
}


def signals_at(*moments):
    """Send this process a signal at each moment, a number of Python's calls and a signal's name; counts the calls."""
    waiting = {number: signal.Signals[name] for number, name in moments}
    count = 0

    def on_event(frame, event, argument):
        nonlocal count
        if event == "call":
            count += 1
            if count in waiting:
                os.kill(os.getpid(), waiting[count])

    sys.setprofile(on_event)
    return lambda: count


def every_signal_counts():
    """Let a second signal be another wish, however soon it comes."""
    signals._SAME_S = 0.0


def on_rank(rank, name, *arguments):
    """Put a fault into one process of several."""
    return globals()[name](*arguments) if os.environ.get("RANK", "0") == str(rank) else None


def files(folder, *fault):
    """Let an operation on files below a folder fail; counts them."""
    return file_faults.strike(folder, file_faults.Fault(*fault))


def _before(where, number, act):
    """Call ``act`` before the call ``number``, from 1, of ``module:name``; returns what reads the number of calls."""
    module, _, name = where.partition(":")
    *holders, last = name.split(".")
    holder = functools.reduce(getattr, holders, importlib.import_module(module))
    whole, count = getattr(holder, last), 0

    @functools.wraps(whole)
    def wrapper(*args, **kwargs):
        nonlocal count
        count += 1
        if count == number:
            act()
        return whole(*args, **kwargs)

    setattr(holder, last, wrapper)
    return lambda: count


def dies_in(where, number):
    """Kill this process as a call begins."""
    return _before(where, number, lambda: os.kill(os.getpid(), signal.SIGKILL))


def throws(where, number, error):
    """Let a call raise an error of :data:`ERRORS` instead."""

    def act():
        raise ERRORS[error]()

    return _before(where, number, act)


def signals_in(where, number, name):
    """Send this process a signal as a call begins."""
    return _before(where, number, lambda: os.kill(os.getpid(), signal.Signals[name]))


def waits_in(where, number, folder):
    """Wait as a call begins: makes the file ``reached`` in ``folder``, and goes on once there is ``go_on``."""

    def act():
        (Path(folder) / "reached").touch()
        while not (Path(folder) / "go_on").exists():
            time.sleep(0.01)

    return _before(where, number, act)


def no_native_loader():
    """Let the reference load the samples."""
    extension.decoder = lambda: (None, "switched off")


def limit_memory(more):
    """Let this process have ``more`` bytes of addresses above what it has; returns nothing to count."""
    have = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmSize" in line)
    resource.setrlimit(resource.RLIMIT_AS, (1024 * have + more, 1024 * have + more))


class _EndsAt(TorchDispatchMode):
    def __init__(self, number):
        super().__init__()
        self.number, self.count = number, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        if self.count == self.number:
            raise ERRORS["OutOfMemoryError"]()
        return function(*args, **(kwargs or {}))


def memory_ends_in_step(step, operation):
    """Let an operation of torch in a step, both counted from 1, find no memory; counts the operations of that step."""
    whole, mode = step_module.train_step, _EndsAt(operation)

    def train_step(state, batches):
        if state.step + 1 != step:
            return whole(state, batches)
        with mode:
            return whole(state, batches)

    step_module.train_step = train_step
    return lambda: mode.count


def clock(*offsets):
    """Let the wall clock be off by each of some seconds in turn, from one look at it to the next."""
    whole, looks = time.time, 0

    def jumping():
        nonlocal looks
        looks += 1
        return whole() + offsets[looks % len(offsets)]

    time.time = jumping
    time.time_ns = lambda: int(1e9 * jumping())
    return lambda: looks


def closed_output(*streams):
    """Let the reader of stdout (1) or stderr (2) have left."""
    reader, writer = os.pipe()
    os.close(reader)
    for stream in streams:
        os.dup2(writer, stream)


def tell_crash():
    """Let a crash of native code say which call of Python's it was in."""
    faulthandler.enable()
