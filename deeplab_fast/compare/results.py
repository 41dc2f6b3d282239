"""The results of a comparison's runs: a file each, kept from one call to the next of the same comparison."""

import dataclasses
from pathlib import Path
from typing import Any

import torch

from deeplab_fast.errors import UserError
from deeplab_fast.runtime import versions
from deeplab_fast.runtime.environment import environment
from deeplab_fast.storage.files import read_json
from deeplab_fast.storage.provenance import as_json, differences
from deeplab_fast.training.sources import Sources

from .config import CompareConfig
from .network import import_torchvision

RUNS = "runs"
_INDIFFERENT = {"output", "seeds", "cache_dir", "max_pixels"}
_FIGURES = {"seconds", "cpu_seconds", "images_per_s", "peak_memory_mb", "miou", "pixel_accuracy", "steps", "loss"}


def result_file(config: CompareConfig, implementation: str, seed: int) -> Path:
    return Path(config.output) / RUNS / f"{implementation}-{seed}.json"


def made_from(config: CompareConfig, sources: Sources, device: torch.device) -> dict[str, Any]:
    """Return what decides a result: flags, samples, device and versions; two results of the same are comparable."""
    flags = {k: v for k, v in dataclasses.asdict(config).items() if k not in _INDIFFERENT}
    train, held_out = sources.digests()
    found = versions()
    return as_json(
        {
            **{"flags": flags, "training data": train, "held-out data": held_out},
            "device": environment(device)["device"],
            "torch": found["torch"],
            "torchvision": import_torchvision().__version__,
            "deeplab_fast": found.get("deeplab_fast"),
        }
    )


def kept_result(path: Path, origin: dict[str, Any]) -> dict[str, Any] | None:
    """Return the result in ``path``, None where there is no such file.

    Raises:
        UserError: it is none, or of another comparison; says in what it differs.
    """
    try:
        content = read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a result of a comparison ({error}); move it away to run this one again") from None
    if not (isinstance(content, dict) and content.keys() >= _FIGURES and isinstance(content.get("made_from"), dict)):
        raise UserError(f"{path}: not a result of a comparison; move it away to run this one again")
    if content["made_from"] != origin:
        which = differences(origin, content["made_from"])
        raise UserError(f"{path}: of another comparison, by {which}; expected another --output, or the same flags")
    return content
