"""SIGTERM and Ctrl-C: a run that is asked to stop saves its state first."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from ..errors import Interrupted

_listening: list["StopRequest"] = []


def stop_is_asked() -> bool:
    """Tell whether a signal asked this process to stop, which a :class:`StopRequest` took."""
    return any(request.signal is not None for request in _listening)


class StopRequest:
    """A wish to stop, from the first SIGTERM or Ctrl-C; a second one stops at once, but not within a save."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._deferring = self._again = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = signal.Signals(number)
        elif self._deferring:
            self._again = True
        else:
            raise Interrupted(self.signal)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Let a second signal wait until the block is done: it must not tear what is being written."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        if self._again and self.signal is not None:
            raise Interrupted(self.signal)

    @contextlib.contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Take the two signals within the block."""
        old = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT)}
        _listening.append(self)
        try:
            yield self
        finally:
            _listening.remove(self)
            for s, handler in old.items():
                signal.signal(s, handler)


@contextlib.contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that nothing half written stays behind."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted(signal.Signals(number))

    old = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)
