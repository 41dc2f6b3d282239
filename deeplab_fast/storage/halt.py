"""An end put to a download from another thread."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


class Halted(Exception):
    """A download was asked to end; what came stays for the next."""


class Halt:
    """A request that a download, in another thread, end at once, whatever it waits for: bytes or its next try."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._lock = threading.RLock()
        self._descriptor: int | None = None  # of the connection that bytes come from

    def ask(self) -> None:
        """Let the download end: a read that waits for bytes returns."""
        self._asked.set()
        with self._lock:
            if self._descriptor is not None:
                with suppress(OSError), socket.socket(fileno=os.dup(self._descriptor)) as connection:
                    connection.shutdown(socket.SHUT_RDWR)

    @property
    def is_asked(self) -> bool:
        return self._asked.is_set()

    def check(self) -> None:
        """Raise :class:`Halted` where the end was asked for."""
        if self._asked.is_set():
            raise Halted

    def sleep(self, seconds: float) -> None:
        """Wait, or raise :class:`Halted` once the end is asked for."""
        if self._asked.wait(seconds):
            raise Halted

    @contextmanager
    def reaching(self, response: Any) -> Iterator[None]:
        """Let :meth:`ask` end the connection of ``response``, where it has one, within the block."""
        try:
            descriptor = response.fileno()
        except (OSError, AttributeError):  # a file of a store has none
            descriptor = None
        with self._lock:
            self._descriptor = descriptor
        try:
            self.check()
            yield
        finally:
            with self._lock:
                self._descriptor = None
