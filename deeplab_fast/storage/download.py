"""Files of the network: looked for at one URL after another, checked, and only then given their name."""

import logging
from pathlib import Path

from ..config.urls import public
from ..errors import UserError
from .files import reason
from .halt import Halt
from .partial import Partial, forget_partial, open_partial
from .remote import RemoteFile, check_published
from .transfer import TransferFailed, transfer

logger = logging.getLogger("deeplab_fast")

PAUSES_S = (1.0, 2.0, 4.0)  # before the second, third and fourth try
WORTH = 1 << 20  # bytes: a try that brings so many more than any before counts as none that failed


class NotDownloaded(UserError):
    """No URL gives a file. ``why``: which, and why; without what to do about it."""

    def __init__(self, why: str, advice: str = "") -> None:
        super().__init__(why + advice)
        self.why = why


class NotPublished(NotDownloaded):
    """There is no such file at any URL, or none that is given to us."""


def download(
    remote: RemoteFile, path: Path, advice: str = "", halt: Halt | None = None, shows_bar: bool = True
) -> bool:
    """Put the published file under ``path``, unless it is there; return whether this process downloaded it.

    It gets its name once its size and digest are right. Each URL is tried in turn, several times where that may help;
    a try goes on from what came before, also in a process that was killed. Of several processes one downloads and the
    others wait. ``advice``: what an error says beside where to put the file, such as a flag for another folder.
    ``halt``: ends it from another thread. ``shows_bar``: show its progress.

    Raises:
        NotPublished: every URL says that it has no such file.
        NotDownloaded: no URL gives it; says each one's reason, and where to put the file.
        UserError: another file is there, the disk
            is full or the folder cannot be written.
        Halted: ``halt`` was asked for.
    """
    downloaded = False
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open_partial(path, halt, shows_bar) as partial:
                if partial is not None:
                    _from_any(remote, partial, path, advice)
                    downloaded = True
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({reason(error)}){_or(advice)}") from None
    if not downloaded:
        check_published(remote, path)
        forget_partial(path)
    return downloaded


def _or(advice: str) -> str:
    return f"; {advice}" if advice else ""


def _from_any(remote: RemoteFile, partial: Partial, path: Path, advice: str) -> None:
    faults: list[str] = []
    absent = True
    for url in dict.fromkeys(remote.urls):
        if faults:
            logger.warning("%s; trying %s", faults[-1], public(url))
        try:
            fault = _from_one(url, remote, partial)
        except TransferFailed as error:
            fault = str(error)
            absent &= error.absent
        else:
            absent = False
        if fault is None:
            partial.finish(path)
            return
        faults.append(f"{public(url)}: {fault}")
    why = "; ".join(faults)
    kind = NotPublished if absent else NotDownloaded
    advice = f"; get it elsewhere and save it as {path}{_or(advice)}"
    raise kind(f"{remote.name}: cannot be downloaded ({why})", advice)


def _from_one(url: str, remote: RemoteFile, partial: Partial) -> str | None:
    """Bring the file from one URL; return why it is not the published one, or None. Raises what a transfer does."""
    continued = partial.begun(url) > 0
    _with_patience(url, remote, partial)
    fault = remote.fault(partial.path)
    if fault is not None and continued:  # what an earlier process left may be what is wrong
        partial.drop()
        _with_patience(url, remote, partial)
        fault = remote.fault(partial.path)
    if fault is not None:
        partial.drop()
    return fault


def _with_patience(url: str, remote: RemoteFile, partial: Partial) -> None:
    """Try a URL until its bytes are there or enough tries in a row have brought nothing."""
    failures, most = 0, partial.came
    while True:
        partial.halt.check()
        try:
            transfer(url, remote, partial)
            return
        except TransferFailed as error:
            failures = 0 if partial.came >= most + WORTH else failures
            most = max(most, partial.came)
            if not error.may_pass or failures == len(PAUSES_S):
                tries = f" ({failures + 1} tries)" if failures else ""
                raise TransferFailed(f"{error}{tries}", error.may_pass, error.absent) from None
            logger.info("%s: %s; next try in %g s", public(url), error, PAUSES_S[failures])
        partial.halt.sleep(PAUSES_S[failures])
        failures += 1
