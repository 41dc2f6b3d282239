"""Checkpoints: one file each, complete or absent, sealed with a digest, holding all that continues a run exactly.

What they hold is ``TrainState.state_dict`` of ``training/state.py``.
"""

import logging
import pickle
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..config import MODELS
from ..errors import UserError, is_out_of_memory, pass_on_memory
from . import seal
from .files import is_broken, reason, replace_file
from .pickle_sizes import asks_too_much
from .seal import Damaged, Seal

logger = logging.getLogger("deeplab_fast")

FORMAT = "deeplab_fast.checkpoint/2"
WEIGHTS_FORMAT = "deeplab_fast.weights/2"  # best.pt: weights and figures, nothing to continue from
_UNSEALED_FORMAT = "deeplab_fast.checkpoint/1"  # before there were digests
BEST, LAST = "best.pt", "last.pt"
_REFUSED = re.compile(r"GLOBAL (\S{1,100})")
_NAME = re.compile(rf"({'|'.join(MODELS)})-([1-9]\d*)_([1-9]\d*)\.pt")

# Facts of a seal, which are compared with each other.
_NUMBERS = ("epoch", "step", "step_in_epoch")

# What a checkpoint of a run must hold.
_CONTENT: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("model", "optimiser", "scaler", "rng", "config"), dict),
    **dict.fromkeys(("step", "epoch", "evaluated", "world_size", "total_steps"), int),
    **{"average": (dict, type(None)), "best_miou": (int, float), "data": str},
}


class UnreadableFile(UserError):
    """A file that cannot be read as what it should be: missing, damaged, or of another kind."""


class Unavailable(UnreadableFile):
    """A file that the system cannot read now, which says nothing of what it holds."""


def save_atomically(content: dict[str, Any], path: Path, facts: dict[str, Any] | None = None) -> None:
    """Write and seal ``content``: a reader sees all of it or nothing. ``facts`` go into the seal (see :mod:`.seal`).

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    with replace_file(path) as partial, partial.open("wb") as file:
        seal.write(content, file, facts or {})


def load(path: Path, device: str | torch.device = "cpu", allow: Sequence[Any] = ()) -> dict[str, Any]:
    """Load a file written by torch.save, once its digest was found right.

    It may hold tensors, plain values and objects of the classes in ``allow``, and nothing else.
    A file that is not ours has the checksums of its zip parts compared instead, where it has them.

    Raises:
        UnreadableFile: missing, damaged, or not such a file.
        Unavailable: the system cannot read it.
    """
    try:
        sealed = seal.check(path)
        _check_kind(path)
        known = torch.serialization.get_safe_globals()  # they would be taken out at the end of the block
        with torch.serialization.safe_globals([one for one in allow if one not in known]):
            content = torch.load(path, map_location=device, weights_only=True)
    except OSError as error:
        pass_on_memory(error)
        raise (Unavailable if is_broken(error) else UnreadableFile)(f"{path}: {reason(error)}") from None
    except Damaged as error:
        raise UnreadableFile(f"{path}: damaged ({error})") from None
    except Exception as error:  # whatever a damaged file makes the unpickler, struct or zlib say
        if is_out_of_memory(error) and not asks_too_much(path, error):
            pass_on_memory(error)
        raise UnreadableFile(f"{path}: not a checkpoint that can be read ({_why_unreadable(path, error)})") from None
    if not isinstance(content, dict):
        raise UnreadableFile(f"{path}: holds a {type(content).__name__}; expected a checkpoint or a state dict")
    if sealed is None and content.get("format") in (FORMAT, WEIGHTS_FORMAT):
        raise UnreadableFile(f"{path}: damaged (its digest is missing)")
    return content


def _check_kind(path: Path) -> None:
    """Raise ValueError where a file begins neither as a zip file nor as a pickle; torch would try it as a tar archive.

    It did write such, up to its version 0.1. The time that tarfile takes to read one has no bounds.
    """
    with path.open("rb") as file:
        if not file.read(4).startswith((b"PK\3\4", b"\x80")):
            raise ValueError


def _why_unreadable(path: Path, error: Exception) -> str:
    """Say why torch refused a file: its own words run over many lines and speak of loading it all the same."""
    if path.stat().st_size == 0:
        return "the file is empty"
    if isinstance(error, pickle.UnpicklingError) and (found := _REFUSED.search(str(error))):
        return f"it holds more than tensors and plain values, {found[1]}; save a state_dict"
    return "damaged, cut short, or of another kind"


class Resumable(NamedTuple):
    """The newest checkpoint that can be read, and the newer ones that cannot: why, and the step of each if known."""

    path: Path
    content: dict[str, Any]
    damaged: list[tuple[str, int | None]]


@dataclass(frozen=True)
class CheckpointFolder:
    """The checkpoints of a run: ``MODEL-EPOCH_STEP.pt``, both counted from 1, step within the epoch, and ``last.pt``.

    ``last.pt`` is written over at each evaluation and every few minutes; the numbered ones stay, the newest ``keep`` of
    them. Only files that a run itself wrote are counted and removed: their names have exactly that form, and their
    seals name the run.
    """

    folder: Path
    model: str
    keep: int

    def path(self, epoch: int, step: int) -> Path:
        return self.folder / f"{self.model}-{epoch}_{step}.pt"

    def all(self) -> list[Path]:
        """Return the numbered checkpoints of this model, oldest first; no copy that was given another number."""
        return [path for _, path in sorted(self._numbered())]

    def _numbered(self) -> list[tuple[tuple[int, int], Path]]:
        found = []
        for path in self.folder.glob(f"{self.model}-*.pt"):
            match = _NAME.fullmatch(path.name)
            if match is None or match[1] != self.model:
                continue
            number = int(match[2]), int(match[3])
            facts = _facts(path)
            if facts is None or number == (facts.get("epoch"), facts.get("step_in_epoch")) or _is_damaged(path):
                found.append((number, path))
        return found

    def of_other_models(self) -> list[Path]:
        """Return numbered checkpoints of runs with another ``--model``."""
        names = sorted(self.folder.glob("*.pt"))
        return [p for p in names if (match := _NAME.fullmatch(p.name)) and match[1] != self.model]

    def save(self, content: dict[str, Any], step: int) -> Path:
        """Write the numbered checkpoint of ``content``, then remove the run's oldest beyond ``keep``.

        ``step`` counts within the epoch.
        """
        path = self.add(content, step)
        paths = self._own(content["run"])
        if path in paths:  # what is newer is damaged, or of a run that went further: not this one's to count
            self._remove_oldest(paths[: paths.index(path) + 1])
        return path

    def add(self, content: dict[str, Any], step: int) -> Path:
        """Write the numbered checkpoint of ``content``, and remove none."""
        path = self.path(content["epoch"], step)
        there = _facts(path)
        if there is not None and (there.get("epoch"), there.get("step_in_epoch")) != (content["epoch"], step):
            kept = _free_name(path, ".kept")
            path.rename(kept)
            logger.warning("%s is a copy of another checkpoint; it is now %s", path, kept.name)
        self._write(content, step, path)
        return path

    def _own(self, run: str) -> list[Path]:
        return [path for path in self.all() if (facts := _facts(path)) and facts.get("run") == run]

    def _remove_oldest(self, paths: list[Path]) -> None:
        for old in paths[: -self.keep]:
            old.unlink(missing_ok=True)

    def save_last(self, content: dict[str, Any], step: int) -> Path:
        """Write ``last.pt`` over the one before."""
        self._write(content, step, self.folder / LAST)
        return self.folder / LAST

    def _write(self, content: dict[str, Any], step_in_epoch: int, path: Path) -> None:
        facts = {key: content[key] for key in ("run", "epoch", "step")}
        facts |= {"format": FORMAT, "step_in_epoch": step_in_epoch, "model": self.model}
        save_atomically({"format": FORMAT, **content}, path, facts)

    def tidy(self, run: str) -> None:
        """Remove what a complete run leaves over, even one killed while it did so: old ones, and its ``last.pt``.

        That stays where no numbered checkpoint has come as far: a run that is given fewer steps than it did loses none.
        """
        numbered = self._own(run)
        self._remove_oldest(numbered)
        path = self.folder / LAST
        facts = _facts(path)
        if facts is None or facts.get("run") != run or not numbered:
            return
        newest = _facts(numbered[-1])
        if newest is not None and newest.get("step", -1) >= facts.get("step", 0):
            path.unlink(missing_ok=True)

    def newest_first(self) -> list[Path]:
        """List all that a run may continue from: by step, and first a ``last.pt`` whose seal cannot be read."""
        last = self.folder / LAST
        numbers: dict[Path, tuple[float, float]] = {path: number for number, path in self._numbered()}
        if last.exists():
            facts = _facts(last)
            numbers[last] = (float("inf"), 0.0)
            if facts is not None and facts.get("model", self.model) == self.model:
                numbers[last] = (float(facts.get("epoch", 0)), float(facts.get("step_in_epoch", 0)))
        return sorted(numbers, key=lambda path: numbers[path], reverse=True)

    def newest(self) -> Resumable | None:
        """Find the newest checkpoint that can be read, or None where there is none at all.

        Raises:
            UnreadableFile: there are some, and none can be read; says why of the newest.
        """
        paths = self.newest_first()
        damaged: list[tuple[str, int | None]] = []
        for path in paths:
            try:
                return Resumable(path, self.read(path), damaged)
            except UnreadableFile as error:
                damaged.append((str(error), (_facts(path) or {}).get("step")))
        if not paths:
            return None
        others = f", and neither can the {len(paths) - 1} before it" if len(paths) > 1 else ""
        raise UnreadableFile(f"{damaged[0][0]}; it cannot be continued from{others}. --resume=False starts anew")

    def read(self, path: Path) -> dict[str, Any]:
        """Read a checkpoint that a run can continue from.

        Raises:
            UnreadableFile: it is damaged, or not what this program writes.
        """
        content = load(path)
        if content.get("format") not in (FORMAT, _UNSEALED_FORMAT):
            raise UnreadableFile(f"{path}: not a checkpoint of this program; expected format {FORMAT}")
        for key, kind in _CONTENT.items():
            if key not in content:
                raise UnreadableFile(f"{path}: has no '{key}'; expected a whole checkpoint")
            if not isinstance(content[key], kind) or isinstance(content[key], bool):
                found = type(content[key]).__name__
                raise UnreadableFile(f"{path}: '{key}' is of type {found}; expected a checkpoint of this program")
        return content

    def set_aside_best(self) -> None:
        """Give a damaged ``best.pt`` another name and say so: the next evaluation's weights take its place.

        Raises:
            Unavailable: the system cannot read it.
            UserError: it cannot be renamed.
        """
        path = self.folder / BEST
        if not path.exists():
            return
        try:
            load(path)
        except Unavailable:
            raise
        except UnreadableFile as error:
            kept = _free_name(path, ".damaged")
            try:
                path.rename(kept)
            except OSError as failed:
                raise UserError(f"{path}: cannot be renamed ({reason(failed)})") from None
            logger.warning("%s; it is now %s", error, kept.name)


def _is_damaged(path: Path) -> bool:
    """Tell whether a file's bytes are not those that were written: what its seal says cannot be trusted then."""
    try:
        seal.check(path)
    except Damaged:
        return True
    except OSError:
        return False
    return False


def _free_name(path: Path, suffix: str) -> Path:
    """Return the first name of ``path`` with ``suffix``, and a number from 2 on, that is not taken."""
    candidate, number = path.with_name(f"{path.name}{suffix}"), 2
    while candidate.exists():
        candidate, number = path.with_name(f"{path.name}{suffix}-{number}"), number + 1
    return candidate


def _facts(path: Path) -> dict[str, Any] | None:
    """Return what a file's seal says, or None where it has none, or one that says nothing of a run's steps."""
    try:
        found: Seal | None = seal.read(path)
    except OSError as error:
        pass_on_memory(error)
        if is_broken(error):
            logger.warning("%s: cannot be read (%s)", path, reason(error))
        return None
    numbers = [] if found is None else [found.facts[name] for name in _NUMBERS if name in found.facts]
    return None if found is None or not all(type(number) is int for number in numbers) else found.facts
