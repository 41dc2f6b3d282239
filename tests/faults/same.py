"""Equality to the bit of a run that a fault disturbed and one that nothing did."""

import json
from pathlib import Path
from typing import Any

import torch

from tests.faults.plugin import Lost


def without_place(content: dict[str, Any]) -> dict[str, Any]:
    """All of a checkpoint or configuration but the names that no two runs share."""
    config = {k: v for k, v in content.get("config", {}).items() if k != "train_dir"}
    return {**{k: v for k, v in content.items() if k not in ("run", "train_dir")}, "config": config}


def require(is_so: object, what: object) -> None:
    """Raise :class:`Lost` where it is not so."""
    if not is_so:
        raise Lost(what)


def assert_equal(a: Any, b: Any, where: str = "") -> None:
    """Compare values within values, tensors to the bit."""
    require(type(a) is type(b), where)
    if isinstance(a, dict):
        require(a.keys() == b.keys(), where)
        for key in a:
            assert_equal(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        require(len(a) == len(b), where)
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{where}/{i}")
    elif isinstance(a, torch.Tensor):
        require(torch.equal(a, b), where)
    else:
        require(a == b, where)


def names_in(folder: Path) -> list[str]:
    """The files below a folder, but for a lock that nobody holds; TensorBoard has one more for each start."""
    names = [p.relative_to(folder) for p in folder.rglob("*") if ".tfevents." not in p.name and p.name != "run.lock"]
    return sorted(map(str, names))


def assert_same_run(folder: Path, expected: Path) -> None:
    """The same files, and in each the same, but for times."""
    names, wanted = names_in(folder), names_in(expected)
    require(names == wanted, f"{folder}: {set(names) ^ set(wanted)}")
    for name in ("metrics.jsonl", "report/evaluation.json"):
        require((folder / name).read_bytes() == (expected / name).read_bytes(), name)
    steps, wanted_steps = (
        [json.loads(line)["step"] for line in (f / "timing.jsonl").read_text().splitlines()] for f in (folder, expected)
    )
    require(steps[-1] == wanted_steps[-1] and steps == sorted(set(steps)), f"timing.jsonl: {steps}")
    for name in (n for n in names if n.endswith(".pt")):
        a, b = (torch.load(f / name, weights_only=True) for f in (folder, expected))
        assert_equal(without_place(a), without_place(b), name)
    a, b = (json.loads((f / "config.json").read_text()) for f in (folder, expected))
    require(without_place(a) == without_place(b), "config.json")


def assert_same_files(folder: Path, expected: Path) -> None:
    """The same files with the same bytes."""
    names, wanted = names_in(folder), names_in(expected)
    require(names == wanted, f"{folder}: {set(names) ^ set(wanted)}")
    for name in names:
        a, b = folder / name, expected / name
        require(a.is_dir() == b.is_dir() and (a.is_dir() or a.read_bytes() == b.read_bytes()), name)
