"""Files that come from elsewhere in the background, while what needs others of them goes on."""

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ..errors import UserError
from .download import NotPublished, download
from .halt import Halt, Halted
from .partial import forget_partial, partial_path
from .remote import RemoteFile

logger = logging.getLogger("deeplab_fast")

_LOOKS_S = 0.1  # between looks whether the program is to end
_SAID_S = 1.0  # of waiting, before it is said
_END_S = 2.0  # longest wait for the thread's end: a name is being looked up, or a connection made


@dataclass(frozen=True)
class Coming:
    """A file that is to come, and its path here."""

    remote: RemoteFile
    path: Path


class StoppedWaiting(UserError):
    """The program was asked to end while it waited for a file."""


class Arrivals:
    """Files that one thread brings, one after another: those first that are waited for, then the expected ones.

    The thread ends when all are here, with this object and with the program; what it has of a file stays.
    """

    def __init__(self, files: Sequence[Coming], advice: str = "") -> None:
        """``advice``: what an error says beside where to put a file, as of :func:`download`."""
        self.files = list(files)
        self._state = _State(self.files, advice)
        weakref.finalize(self, self._state.end)
        if self._state.order:
            self._state.thread.start()

    def expect(self, numbers: Iterable[int]) -> None:
        """Bring the files of these numbers in this order, before the others."""
        order = list(numbers)
        with self._state.changed:
            self._state.put_first(order)

    def are_here(self, numbers: Iterable[int]) -> bool:
        """Tell whether the files of these numbers are complete."""
        return self._state.missing.isdisjoint(numbers)

    def wait(self, numbers: Sequence[int], is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Wait until the files of these numbers are complete.

        What could not be brought before is tried once more, unless there was no such file.
        ``is_stopped``: asked while it waits, whether the program is to end.

        Raises:
            UserError: one of them cannot be had; says why.
            StoppedWaiting: the program is to end.
        """
        state = self._state
        if self.are_here(numbers):
            return
        with state.changed:
            for number in numbers:
                if not isinstance(state.failed.get(number), NotPublished):
                    state.failed.pop(number, None)
            state.put_first(numbers)
            for number in numbers:
                with _Shown(state, number) as shown:
                    while number in state.missing:
                        if number in state.failed:
                            raise state.failed[number]
                        if is_stopped() or state.halt.is_asked:
                            name = self.files[number].remote.name
                            raise StoppedWaiting(f"{name}: asked to stop while it was waited for")
                        shown.update()
                        state.changed.wait(_LOOKS_S)


class _State:
    """State that the thread and those who wait share; ``changed`` guards all of it."""

    def __init__(self, files: list[Coming], advice: str) -> None:
        self.files, self.advice = files, advice
        self.missing = {number for number, file in enumerate(files) if not file.path.exists()}
        for number, file in enumerate(files):
            if number not in self.missing:
                forget_partial(file.path)
        self.order = sorted(self.missing)
        self.failed: dict[int, UserError] = {}
        self.changed = threading.Condition()
        self.halt = Halt()
        self.thread = threading.Thread(target=self._bring_all, name="arrivals", daemon=True)

    def put_first(self, numbers: Iterable[int]) -> None:
        first = dict.fromkeys(number for number in numbers if number in self.missing)
        self.order = [*first, *(number for number in self.order if number not in first)]
        self.changed.notify_all()

    def end(self) -> None:
        """Ask the thread to end and wait for it: one that is still at work while Python ends may crash the process."""
        self.halt.ask()
        with self.changed:
            self.changed.notify_all()
        if self.thread.is_alive() and self.thread is not threading.current_thread():
            self.thread.join(_END_S)

    def _next(self) -> int | None:
        """Return the file to bring, once there is one; None where all are here or the end was asked for."""
        with self.changed:
            while self.missing and not self.halt.is_asked:
                for number in self.order:
                    if number not in self.failed:
                        return number
                self.changed.wait()
        return None

    def _bring_all(self) -> None:
        while (number := self._next()) is not None:
            file, error = self.files[number], None
            try:
                download(file.remote, file.path, self.advice, self.halt, shows_bar=False)
            except Halted:
                return
            except UserError as caught:
                error = caught
            except Exception as caught:  # who waits must not wait for ever
                error = UserError(f"{file.remote.name}: cannot be downloaded ({type(caught).__name__}: {caught})")
            with self.changed:
                if error is None:
                    self.missing.discard(number)
                    self.order.remove(number)
                else:
                    self.failed[number] = error
                self.changed.notify_all()


class _Shown:
    """A line and a bar of bytes for a wait that takes more than a moment."""

    def __init__(self, state: _State, number: int) -> None:
        self._state, self._file = state, state.files[number]
        self._began = time.monotonic()
        self._bar: tqdm | None = None

    def __enter__(self) -> "_Shown":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self) -> None:
        """Show how far the file is, once the wait for it takes long."""
        if time.monotonic() - self._began < _SAID_S:
            return
        name, total = self._file.remote.name, len(self._state.files)
        if self._bar is None:
            logger.info("waiting for %s: %d of %d files are here", name, total - len(self._state.missing), total)
            size = self._file.remote.size
            self._bar = tqdm(
                desc=name, total=size, unit="B", unit_scale=True, unit_divisor=1024, leave=False, disable=None
            )
        with suppress(OSError):
            self._bar.update(partial_path(self._file.path).stat().st_size - self._bar.n)
