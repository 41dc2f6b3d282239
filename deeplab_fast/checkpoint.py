"""Checkpoints: one file each, complete or absent, holding all that continues a run exactly."""

import os
import pickle
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .errors import UserError

FORMAT = "deeplab_fast.checkpoint/1"
WEIGHTS_FORMAT = "deeplab_fast.weights/1"  # best.pt: weights and figures, nothing to continue from
BEST = "best.pt"
_NAME = re.compile(r"-(\d+)_(\d+)\.pt$")


def save_atomically(content: dict[str, Any], path: Path) -> None:
    """Write under a temporary name, flush to disk, then rename: a reader sees all of it or nothing.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        if sys.platform != "win32":
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(f"{path}: checkpoint could not be written ({reason})") from None


def load(path: Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Content of a file written by torch.save, tensors and plain values only.

    Raises:
        UserError: missing, damaged, or not such a file.
    """
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except Exception as error:  # whatever a damaged file makes the unpickler, struct or zlib say
        raise UserError(f"{path}: not a checkpoint that can be read ({_why_unreadable(path, error)})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}; expected a checkpoint or a state dict")
    return content


def _why_unreadable(path: Path, error: Exception) -> str:
    """torch's own words run over many lines and speak of loading the file all the same."""
    if path.stat().st_size == 0:
        return "the file is empty"
    if isinstance(error, pickle.UnpicklingError) and "Unsupported" in str(error):
        return "it holds more than tensors and plain values; save a state_dict"
    return "damaged, cut short, or of another kind"


@dataclass(frozen=True)
class CheckpointFolder:
    """The numbered checkpoints of a run: ``MODEL-EPOCH_STEP.pt``, both counted from 1, step within the epoch."""

    folder: Path
    model: str
    keep: int

    def path(self, epoch: int, step: int) -> Path:
        return self.folder / f"{self.model}-{epoch}_{step}.pt"

    def all(self) -> list[Path]:
        """Oldest first."""
        found = [(m, p) for p in self.folder.glob(f"{self.model}-*_*.pt") if (m := _NAME.search(p.name))]
        return [p for m, p in sorted(found, key=lambda f: (int(f[0][1]), int(f[0][2])))]

    def of_other_models(self) -> list[Path]:
        """Checkpoints of runs with another ``--model``."""
        own = set(self.all())
        return [p for p in sorted(self.folder.glob("*.pt")) if _NAME.search(p.name) and p not in own]

    def save(self, content: dict[str, Any], epoch: int, step: int) -> Path:
        """Write a checkpoint, then remove the oldest beyond ``keep``."""
        path = self.path(epoch, step)
        save_atomically({"format": FORMAT, **content}, path)
        for old in self.all()[: -self.keep]:
            old.unlink(missing_ok=True)
        return path

    def newest(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest checkpoint and its content, or None where there is none.

        Raises:
            UserError: it cannot be read; says which older one could take its place.
        """
        paths = self.all()
        if not paths:
            return None
        try:
            content = load(paths[-1])
        except UserError as error:
            advice = f"; move it away to continue from {paths[-2].name}" if len(paths) > 1 else ""
            raise UserError(f"{error}{advice}") from None
        if content.get("format") != FORMAT:
            raise UserError(f"{paths[-1]}: not a checkpoint of this program; expected format {FORMAT}")
        return paths[-1], content
