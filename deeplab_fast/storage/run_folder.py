"""The folder of a training run: whose it is, what lies there, and how an old run makes way for a new one."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from ..config import MODELS
from ..errors import UserError
from .checkpoint import BEST, LAST
from .files import check_folder, make_folder, reason, unfinished
from .locks import lock_file
from .log import METRICS, TIMING

CONFIG, LOCK = "config.json", "run.lock"
REPORT, PAGE, EVALUATION = "report", "report.html", "evaluation.json"
_NUMBERED = rf"(?:{'|'.join(MODELS)})-\d+_\d+\.pt"
_FILES = rf"{_NUMBERED}|" + "|".join(map(re.escape, (BEST, LAST, CONFIG, METRICS, TIMING)))
_OWN = re.compile(
    rf"{_FILES}|{re.escape(BEST)}\.damaged(?:-\d+)?|(?:{re.escape(METRICS)}|{re.escape(TIMING)})\.damaged|profile\.(?:json|md)|events\.out\.tfevents\..*|wandb|mlruns|{REPORT}"
)


def open_run_folder(folder: Path) -> None:
    """Make ``--train_dir`` and find out now, not at the first checkpoint, whether it can be written.

    Raises:
        UserError: it cannot.
    """
    make_folder(folder, f"--train_dir={folder}")
    check_folder(folder, f"--train_dir={folder}")


@contextlib.contextmanager
def locked(folder: Path, flag: str = "train_dir") -> Iterator[None]:
    """Keep other runs out of ``folder``, which ``--flag`` names, inside the block, and remove what a killed one left.

    Raises:
        UserError: another run has it, says which; or it cannot be written.
    """
    with lock_file(folder / LOCK, f"--{flag}={folder}"):
        _remove_unfinished(folder)
        yield


def _remove_unfinished(folder: Path) -> None:
    """Remove what a run that was killed had begun to write."""
    for path in folder.iterdir():
        if re.fullmatch(_FILES, unfinished(path.name) or ""):
            path.unlink(missing_ok=True)
    for path in (folder / REPORT).glob(".*"):
        if unfinished(path.name) in (PAGE, EVALUATION):
            path.unlink(missing_ok=True)


def results_in(folder: Path) -> list[str]:
    """Name what a run has left in ``folder`` that another would write over."""
    return [name for name in (BEST, METRICS, TIMING) if (folder / name).is_file() and (folder / name).stat().st_size]


def refuse_to_overwrite(folder: Path) -> None:
    """Raise :class:`UserError` where a folder without a checkpoint to continue from holds results."""
    found = results_in(folder)
    if found:
        raise UserError(
            f"--train_dir={folder}: holds {', '.join(found)} but no checkpoint to continue from; --resume=False"
            " starts over and keeps them in a subfolder, or choose another folder"
        )


def move_aside(folder: Path) -> Path | None:
    """Move what runs have left in ``folder`` to ``previous-N`` within it; returns that, or None where there is nothing.

    Files of any other name stay.

    Raises:
        UserError: a file cannot be moved.
    """
    own = sorted(path for path in folder.iterdir() if _OWN.fullmatch(path.name))
    if not own:
        return None
    number = 1
    while (target := folder / f"previous-{number}").exists():
        number += 1
    try:
        target.mkdir()
        for path in own:
            path.rename(target / path.name)
    except OSError as error:
        raise UserError(f"--train_dir={folder}: cannot be moved to {target.name} ({reason(error)})") from None
    return target
