"""Errors that are the user's to mend: shown as one line, without a traceback."""

import errno
import signal
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

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


class OutOfMemory(UserError):
    """The memory of the host or of a GPU was not enough; says for what, and which flag makes it enough."""


class TrainingDiverged(Exception):
    """A loss, its gradients or a weight became NaN or infinite; training stopped, and the state before that is saved.

    The command line prints it as ``error: <message>`` and exits with status 1.
    """


class Interrupted(KeyboardInterrupt):
    """A signal asked a program to end, or a run to stop at once.

    The command line exits with status 128 + its number.
    """

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


# Of torch on a CPU, of CUDA and its libraries, and of the system; a thread, too, that cannot be had for its stack.
_OUT_OF_MEMORY = (
    *("not enough memory", "can't allocate memory", "cannot allocate memory", "out of memory", "bad_alloc"),
    *("can't start new thread", "resource temporarily unavailable"),
    "failed to map segment",  # a library that is imported
    # oneDNN, for its code, its scratch space, or what its cache of primitives is to hold
    *("could not create a primitive", "could not execute a primitive", "future_error: broken promise"),
)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that the memory of the host or of a GPU was not enough."""
    if isinstance(error, UserError):
        return False
    if isinstance(error, MemoryError) or any(c.__name__ == "OutOfMemoryError" for c in type(error).__mro__):
        return True  # torch's, by its name: nothing heavy is imported here
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    said = str(error).lower()
    if isinstance(error, ImportError):  # of the system's loader
        return "static tls" not in said and any(words in said for words in _OUT_OF_MEMORY)
    return isinstance(error, RuntimeError) and any(words in said for words in _OUT_OF_MEMORY)


def pass_on_memory(error: Exception) -> None:
    """Raise MemoryError where memory was not enough: it says nothing of the file that was being read then."""
    if is_out_of_memory(error):
        raise MemoryError(first_line(error)) from None


@contextmanager
def enough_memory(what: str, advice: str) -> Iterator[None]:
    """Let the block, or the function that this decorates, end in one line where memory is not enough for it.

    Raises:
        OutOfMemory: it was not; says ``what`` it was for, and that ``advice`` was expected.
    """
    try:
        yield
        return
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        said = first_line(error)
    # Not within the handler: the error holds the frames, and they what was allocated.
    raise OutOfMemory(f"{what}: out of memory ({said}); expected {advice}")


def first_line(error: BaseException) -> str:
    """Return what an error says, short: torch adds advice over many lines."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
