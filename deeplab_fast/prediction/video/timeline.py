"""Time stamps that only increase, of streams in which they do not."""

from dataclasses import dataclass
from fractions import Fraction

_RESTART = Fraction(1, 2)  # seconds; a stamp that goes back further begins another recording, appended to the first


@dataclass
class Timeline:
    """The time stamps of one stream, in units of ``time_base`` seconds.

    A stamp that does not come after the one before is put behind it. Where the stamps start over, as in two recordings
    of broadcasts that were appended, the second goes on from the end of the first.
    """

    time_base: Fraction
    _last: int | None = None
    _shift: int = 0

    def place(self, stamp: int, duration: int, least: int = 1) -> int:
        """Return the stamp to use for what has the time stamp ``stamp``.

        ``duration``: the time that it usually takes. ``least``: how far behind the one before it is put if it does not
        come after that.
        """
        placed = stamp + self._shift
        if self._last is not None and placed <= self._last:
            starts_over = (self._last - placed) * self.time_base > _RESTART
            after = self._last + max(1, duration if starts_over else least)
            if starts_over:
                self._shift += after - placed
            placed = after
        self._last = placed
        return placed
