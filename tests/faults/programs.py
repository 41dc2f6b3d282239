"""Programs run with a fault at an operation on their files, by :mod:`tests.faults.driver`."""

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.conftest import REPO
from tests.trials.processes import free_port

HERE = Path(__file__).parent
CHANGES, READS = 1, 2  # as in fault_at.c
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


NONE = Fault()


class Ended(NamedTuple):
    """A program that ended with ``status`` (negative: by a signal), after ``count`` operations.

    ``points``: those of them that differ from the ones beside them.
    """

    status: int
    count: int
    points: list[int]
    said: str


class Programs:
    """Runs programs one after another in processes forked from one that has imported them."""

    def __init__(self, library: Path | None) -> None:
        self.library = library
        self._log = Path(tempfile.mkdtemp()) / "said"
        preload = {} if library is None else {"LD_PRELOAD": str(library)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.driver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPO,
            env={**os.environ, "OMP_NUM_THREADS": "1", **preload},
        )

    def run(
        self,
        program: str,
        flags: Sequence[object],
        folder: Path,
        fault: Fault = NONE,
        processes: int = 1,
        **environment: str,
    ) -> Ended:
        """Run a program, with a fault among its operations below ``folder``; of several processes, the first one's."""
        said: dict[str, object] = {"program": program, "flags": list(map(str, flags))}
        said |= {"log": str(self._log), "folder": str(folder)}
        said |= {"environment": environment, "processes": processes, "port": free_port() if processes > 1 else 0}
        print(json.dumps({**said, **fault._asdict()}), file=self._process.stdin, flush=True)
        assert self._process.stdout is not None
        return Ended(*json.loads(self._process.stdout.readline()), self._log.read_text(errors="replace"))

    def close(self) -> None:
        """End the process that they are forked from."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(60) == 0
        shutil.rmtree(self._log.parent)


def build_library(folder: Path) -> Path | None:
    """Build ``fault_at.c``; None where it cannot be: the driver then only kills, at Python's own operations."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    library = folder / "fault_at.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(HERE / "fault_at.c"), "-ldl"]
    subprocess.run(command, check=True)
    return library
