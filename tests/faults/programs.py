"""Programs run one after another with faults put into them, by :mod:`tests.faults.server`."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.conftest import REPO

Request = Sequence[Any]  # the name of a function in tests.faults.put_in, and its arguments
LIMIT_S = 600  # a program that has not ended then hangs: they take seconds, minutes on a machine that is busy


class Ended(NamedTuple):
    """How a program ended: the exit status of each process (negative: the signal), and all that they printed.

    ``counts``: what the faults put into the first process counted; none where it was killed.
    """

    statuses: list[int]
    counts: list[Any]
    said: str

    @property
    def status(self) -> int:
        return self.statuses[0]

    @property
    def errors(self) -> list[str]:
        return [line for line in self.said.splitlines() if line.startswith("error: ")]

    @property
    def count(self) -> int:
        """Number of operations on files, where the first fault is one of them."""
        return self.counts[0][0]

    @property
    def points(self) -> list[int]:
        """Those of the operations that differ from the ones beside them."""
        return self.counts[0][1]


class Programs:
    """Runs programs in forks of one process, which has the ``library`` of file faults preloaded.

    ``is_warm``: that process has trained and predicted, so that runs begin with memory that it has freed, too.
    """

    def __init__(self, library: Path | None, is_warm: bool = True) -> None:
        self.library = library
        self._folder = Path(tempfile.mkdtemp())
        preload = {} if library is None else {"LD_PRELOAD": str(library)}
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.server", *([] if is_warm else ["cold"])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPO,
            env={**os.environ, "OMP_NUM_THREADS": "1", **preload},
        )

    def __call__(
        self,
        program: str,
        argv: Sequence[object],
        *faults: Request,
        processes: int = 1,
        all_die: bool = False,
        to_the_end: bool = False,
        **environment: str,
    ) -> Ended:
        """Run a program with faults put into it, each of its processes by its name and arguments."""
        for old in self._folder.iterdir():
            old.unlink()
        request = {"program": program, "argv": list(map(str, argv)), "faults": faults, "environment": environment}
        request |= {"processes": processes, "all_die": all_die, "to_the_end": to_the_end, "limit_s": LIMIT_S}
        request |= {"log": str(self._folder / "log"), "counts": str(self._folder / "counts")}
        print(json.dumps(request), file=self._server.stdin, flush=True)
        assert self._server.stdout is not None
        statuses, counts = json.loads(self._server.stdout.readline())
        logs = sorted(self._folder.glob("log.*"))
        return Ended(statuses, counts, "".join(path.read_text(errors="replace") for path in logs))

    def close(self) -> None:
        """End the process that they are forked from."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        assert self._server.wait(60) == 0
        shutil.rmtree(self._folder)
