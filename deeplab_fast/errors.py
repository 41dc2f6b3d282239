"""Errors that are the user's to mend: shown as one line, without a traceback."""

import signal
import unicodedata

_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # controls, halves of characters, ends of lines


def _printable(text: str) -> str:
    """Return the text on one line; what breaks it, or cannot be written, stands escaped."""
    if text.isprintable():
        return text
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) in _UNPRINTABLE else c for c in text)


class UserError(Exception):
    """A mistake in what the program was given: says what, where, and what was expected.

    The command line prints it as ``error: <message>`` and exits with status 2. Names and words of files may be of
    anything: line ends and other controls in the message are escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_printable(message))


class TrainingDiverged(Exception):
    """A loss, its gradients or a weight became NaN or infinite; training stopped, and the state before that is saved.

    The command line prints it as ``error: <message>`` and exits with status 1.
    """


class Interrupted(KeyboardInterrupt):
    """A second signal asked a run to stop at once. The command line exits with status 128 + its number."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number
