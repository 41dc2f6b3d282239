"""A roll call: who is missing where processes that wait for each other no longer get an answer.

Each process leaves notes in the store that they met through (torchrun's, which outlives them): its number and host when
it comes, that it waits when an exchange failed, that it leaves when it ends on an error, which it says itself. From the
notes those that wait learn whether there is anything left to say, and who has neither left nor answers.

Where a connection breaks, those beside the process that died notice first; the others still wait for one that waits for
it, and answer from a thread of their own.
"""

import os
import socket
import threading
import time
from dataclasses import dataclass

import torch.distributed as dist

_ANSWERS_S = 1.0  # between looks at whether another asks
_STORE_S = 10.0  # longest a look takes, unless the store's host hangs: then it does not come back at all


@dataclass(frozen=True)
class Missing:
    """The result of a roll call: those who neither wait nor left, each as its rank, process and host.

    ``is_said``: one left on an error of its own, which it says. ``timed_out``: one waited for all the time that there
    is; else a connection broke. ``speaks``: this process, the first to find out, says what is to be said.
    """

    ranks: list[str]
    is_said: bool
    timed_out: bool
    speaks: bool


class RollCall:
    """The notes of the ``size`` processes that met through ``store``; this one has ``rank``."""

    def __init__(self, store: dist.Store, rank: int, size: int) -> None:
        self.store, self.rank, self.size = store, rank, size
        self._note("address", f"process {os.getpid()} on {socket.gethostname()}")
        self._ended = threading.Event()
        self._answers = threading.Thread(target=self._answer, daemon=True)
        self._answers.start()

    def end(self) -> None:
        """Answer no more: no other process waits for this one.

        Waits for the thread: one that comes back from the store's C++ while Python ends is unwound through it, which
        aborts the process.
        """
        self._ended.set()
        self._answers.join(_STORE_S)

    def _answer(self) -> None:
        """Note that this process is there once another asks."""
        while not self._ended.wait(_ANSWERS_S):
            if self._exists("called"):
                self._note("here", "1")
                return

    def leave(self) -> None:
        """Note that this process ends on an error of its own, which it says."""
        self._note("left", "1")

    def missing(self, timed_out: bool, grace_s: float) -> Missing:
        """Wait until every other process has noted that it waits, leaves or is there, at most ``grace_s`` seconds.

        ``timed_out``: this one's exchange failed because time was up. So does then that of any other that waits: to be
        there is not enough.
        """
        self._note("waits", "long" if timed_out else "short")
        until = time.monotonic() + grace_s
        while True:
            if not self._set("called", "1"):  # where rank 0 has the store: it has ended, and nothing more can be known
                return Missing([], False, timed_out, True)
            left = [rank for rank in range(self.size) if self._has("left", rank)]
            waits = [rank for rank in range(self.size) if self._has("waits", rank)]
            timed_out |= any(self._read("waits", rank) == "long" for rank in waits)
            here = [] if timed_out else [rank for rank in range(self.size) if self._has("here", rank)]
            silent = sorted({*range(self.size)} - {*left, *waits, *here, self.rank})
            if not silent or time.monotonic() > until:
                return Missing([self._words(rank) for rank in silent], bool(left), timed_out, self._is_first())
            time.sleep(0.1)

    def _words(self, rank: int) -> str:
        address = self._read("address", rank)
        if not address and not self._set("called", "1"):  # the store has just ended
            return f"rank {rank}"
        return f"rank {rank} ({address})" if address else f"rank {rank}, which never came"

    def _is_first(self) -> bool:
        """Tell whether no process asked this before, which is then the one to speak."""
        try:
            return self.store.add("spoken", 1) == 1
        except (RuntimeError, ValueError):
            return True

    def _note(self, word: str, value: str) -> None:
        self._set(f"{word}/{self.rank}", value)

    def _set(self, key: str, value: str) -> bool:
        """Set a value, and tell whether it could be: the store ends with the process that has it."""
        try:
            self.store.set(key, value)
        except (RuntimeError, ValueError):
            return False
        return True

    def _has(self, word: str, rank: int) -> bool:
        return self._exists(f"{word}/{rank}")

    def _exists(self, key: str) -> bool:
        try:
            return bool(self.store.check([key]))
        except (RuntimeError, ValueError):
            return False

    def _read(self, word: str, rank: int) -> str:
        if not self._has(word, rank):
            return ""
        return str(self.store.get(f"{word}/{rank}").decode())
