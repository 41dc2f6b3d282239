"""Who is missing where processes that wait for each other no longer get an answer.

Each process leaves notes in the store that they met through (torchrun's, which outlives them): its place when it comes,
that it waits when an exchange failed, that it leaves when it ends on an error, which it says itself. From the notes
those that wait learn whether there is anything left to say, and who has neither left nor answers.
"""

import os
import socket
import time
from dataclasses import dataclass

import torch.distributed as dist


@dataclass(frozen=True)
class Missing:
    """What a roll call found: ``places`` of those who neither wait nor left, in words.

    ``is_said``: one left on an error of its own, which it says. ``timed_out``: one waited for all the time that there
    is; else a connection broke. ``speaks``: of those who wait, this process is the one that says what is to be said.
    """

    places: list[str]
    is_said: bool
    timed_out: bool
    speaks: bool


class RollCall:
    """The notes of the ``size`` processes that met through ``store``; this one has ``rank``."""

    def __init__(self, store: dist.Store, rank: int, size: int) -> None:
        self.store, self.rank, self.size = store, rank, size
        self._note("place", f"process {os.getpid()} on {socket.gethostname()}")

    def leave(self) -> None:
        """Note that this process ends on an error of its own, which it says."""
        self._note("left", "1")

    def missing(self, timed_out: bool, grace_s: float) -> Missing:
        """Wait until every other process has noted that it waits or leaves, at most ``grace_s`` seconds.

        ``timed_out``: this one's exchange failed because time was up.
        """
        self._note("waits", "long" if timed_out else "")
        until = time.monotonic() + grace_s
        while True:
            left = [rank for rank in range(self.size) if self._has("left", rank)]
            waits = [rank for rank in range(self.size) if self._has("waits", rank)]
            silent = [rank for rank in range(self.size) if rank not in left and rank not in waits]
            if not silent or time.monotonic() > until:
                timed_out |= any(self._read("waits", rank) == "long" for rank in waits)
                places = [self._place(rank) for rank in silent]
                return Missing(places, bool(left), timed_out, min([*waits, self.rank]) == self.rank)
            time.sleep(0.1)

    def _place(self, rank: int) -> str:
        place = self._read("place", rank)
        return f"rank {rank} ({place})" if place else f"rank {rank}, which never came"

    def _note(self, word: str, value: str) -> None:
        try:
            self.store.set(f"{word}/{self.rank}", value)
        except (RuntimeError, ValueError):  # the store has ended with the process that had it
            return

    def _has(self, word: str, rank: int) -> bool:
        try:
            return bool(self.store.check([f"{word}/{rank}"]))
        except (RuntimeError, ValueError):
            return False

    def _read(self, word: str, rank: int) -> str:
        if not self._has(word, rank):
            return ""
        return str(self.store.get(f"{word}/{rank}").decode())
