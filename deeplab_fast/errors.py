"""Errors that are the user's to mend: shown as one line, without a traceback."""

import signal


class UserError(Exception):
    """A mistake in what the program was given: says what, where, and what was expected.

    The command line prints it as ``error: <message>`` and exits with status 2.
    """


class TrainingDiverged(Exception):
    """The loss became NaN or infinite; training stopped and what was saved before stands.

    The command line prints it as ``error: <message>`` and exits with status 1.
    """


class Interrupted(KeyboardInterrupt):
    """A second signal asked a run to stop at once. The command line exits with status 128 + its number."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number
