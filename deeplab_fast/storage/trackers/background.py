"""A tracker that talks to a service, in a thread of its own: training waits for no answer."""

import queue
import threading
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from .tracker import Tracker

CLOSE_S = 60.0  # for what is still to be sent when a run ends

_Call = Callable[[Tracker], None]


class Background:
    """The tracker that ``make`` opens, opened and called in a thread; its first error is raised by the next call.

    The thread ends with its first error, and does not keep the program from ending.
    """

    def __init__(self, make: Callable[[], Tracker]) -> None:
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, args=(make,), name="tracker", daemon=True)
        self._thread.start()

    def _work(self, make: Callable[[], Tracker]) -> None:
        try:
            tracker = make()
            while (call := self._calls.get()) is not None:
                call(tracker)
        except Exception as error:
            self._error = error

    def _put(self, call: _Call) -> None:
        if self._error is not None:
            raise self._error
        self._calls.put(call)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Note the values that belong to a step."""
        self._put(lambda tracker: tracker.scalars(values, step))

    def image(self, name: str, image: NDArray[np.uint8], step: int) -> None:
        """Note a picture, RGB ``[H, W, 3]``, that belongs to a step."""
        self._put(lambda tracker: tracker.image(name, image, step))

    def close(self) -> None:
        """Write what is waiting, for at most :data:`CLOSE_S`, and end.

        Raises:
            TimeoutError: it was not enough; what is still waiting is lost.
        """
        self._put(lambda tracker: tracker.close())
        self._calls.put(None)
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            raise TimeoutError(f"it did not take the last figures within {CLOSE_S:g} s")
        if self._error is not None:
            raise self._error

    def abandon(self) -> None:
        """Do nothing: the thread has ended, or waits for a service that may never answer."""
