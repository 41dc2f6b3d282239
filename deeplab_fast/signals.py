"""SIGINT (Ctrl-C), SIGTERM and SIGHUP: a program ends in order, a run that is asked to stop saves its state first."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from .errors import Interrupted

_SAME_S = 1.0  # torchrun hands on to its processes what the terminal has sent them already: that is one wish
_AGAIN_S = 0.01  # until a signal comes again that ended a finalizer alone
_listening: list["StopRequest"] = []


def stop_is_asked() -> bool:
    """Tell whether a signal asked this process to stop, which a :class:`StopRequest` took."""
    return any(request.signal is not None for request in _listening)


class StopRequest:
    """A wish to stop, from the first signal; another one a second later stops at once, but not within a save.

    What it stops is still put in order: only a further one ends the process where it is.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._since = 0.0
        self._deferring = self._again = self._raised = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal, self._since = signal.Signals(number), time.monotonic()
        elif time.monotonic() - self._since < _SAME_S:
            return
        elif self._raised:
            os._exit(128 + number)
        elif self._deferring:
            self._again = True
        else:
            self._stop_at_once()

    def _stop_at_once(self) -> None:
        assert self.signal is not None
        self._raised, self._since = True, time.monotonic()
        raise Interrupted(self.signal)

    def forget(self) -> None:
        """Take back that a further signal stopped at once: it ended a finalizer alone."""
        self._raised, self._since = False, 0.0

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Let a second signal wait until the block is done: it must not tear what is being written."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        if self._again and not self._raised:
            self._stop_at_once()

    @contextlib.contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Take the signals within the block."""
        with _answered_by(self._note):
            _listening.append(self)
            try:
                yield self
            finally:
                _listening.remove(self)


class Interruption:
    """The first signal interrupts a program; the next one lets it put in order what it has begun, a third ends it.

    ``over``: there is nothing left that could be put in order, and a signal ends it at once, without a word.
    """

    def __init__(self) -> None:
        self.over = False
        self._count = 0

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self.over or self._count > 2:
            os._exit(128 + number)
        if self._count == 1:
            raise Interrupted(signal.Signals(number))

    def listen(self) -> None:
        """Take the signals from now on.

        One that comes while Python runs a finalizer ends that alone, since Python passes over all errors in them
        (``sys.unraisablehook``): it comes again a moment later.
        """
        _answer_by(self._interrupt)
        say_of = sys.unraisablehook

        def passed_over(what: "sys.UnraisableHookArgs") -> None:
            if not isinstance(what.exc_value, Interrupted):
                say_of(what)
                return
            self._count = 0
            for request in _listening:
                request.forget()
            threading.Timer(_AGAIN_S, _send_main_thread, [what.exc_value.number]).start()

        sys.unraisablehook = passed_over


def _send_main_thread(number: signal.Signals) -> None:
    """Send a signal to the main thread, so that it ends what that waits for."""
    identity = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and identity is not None:
        signal.pthread_kill(identity, number)
    else:
        signal.raise_signal(number)


def interrupting_signals() -> list[signal.Signals]:
    """Return the signals that ask a program to end: SIGHUP only where it is not ignored, as under nohup."""
    found = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        found.append(signal.SIGHUP)
    return found


@contextlib.contextmanager
def _answered_by(answer: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    old = _answer_by(answer)
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _answer_by(answer: Callable[[int, FrameType | None], None]) -> dict[signal.Signals, Any]:
    """Let ``answer`` take the signals, and return what took them before; nothing in a thread, where Python has none."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, answer) for number in interrupting_signals()}
