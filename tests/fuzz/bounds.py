"""What reading one input takes: CPU time, and memory beyond what the process had before."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@dataclass
class Used:
    """CPU seconds of all threads, which a busy machine does not stretch, and megabytes at the peak."""

    seconds: float = 0.0
    megabytes: float = 0.0


@contextmanager
def measured() -> Iterator[Used]:
    """Measure the block; the figures are there once it is left."""
    used, begin = Used(), time.process_time()
    before = _begin_peak()
    try:
        yield used
    finally:
        used.seconds = time.process_time() - begin
        used.megabytes = _peak() - before


def _begin_peak() -> float:
    """Let the peak begin anew, and return it; where the system cannot, the peak is the process's."""
    with suppress(OSError):
        _CLEAR.write_text("5")
    return _peak()


def _peak() -> float:
    try:
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
