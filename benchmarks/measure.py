"""Timing that can be believed: warm-up, interleaving, order swapped, median and spread; and where it was taken."""

import datetime
import importlib.metadata
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from deeplab_fast.runtime import versions

K = TypeVar("K")


@dataclass(frozen=True)
class Timing:
    """A value of each round: seconds, or the ratio of two rounds' seconds."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third quartile."""
        low, _, high = statistics.quantiles(self.values, n=4)
        return low, high

    def over(self, other: "Timing") -> "Timing":
        """The ratio of the two in each round, where they ran one after the other.

        Its median is steadier than the ratio of the medians: what slows the machine for a while slows both.
        """
        return Timing(tuple(a / b for a, b in zip(self.values, other.values, strict=True)))

    def summary(self) -> dict[str, float]:
        """Median and quartiles, for a result file."""
        low, high = self.quartiles
        return {"median": self.median, "q1": low, "q3": high}

    def in_ms(self) -> dict[str, float]:
        low, high = self.quartiles
        return {
            "median_ms": 1e3 * self.median,
            "q1_ms": 1e3 * low,
            "q3_ms": 1e3 * high,
            "min_ms": 1e3 * min(self.values),
            "rounds": len(self.values),
        }


def interleave(steps: Mapping[K, Callable[[], Any]], rounds: int, warmup: int, device: torch.device) -> dict[K, Timing]:
    """Time the steps in turn, every second round in reverse order, so that drift meets all of them alike."""
    for _ in range(warmup):
        for step in steps.values():
            step()
    found: dict[K, list[float]] = {name: [] for name in steps}
    for i in range(rounds):
        for name in list(steps) if i % 2 == 0 else reversed(list(steps)):
            _wait(device)
            start = time.perf_counter()
            steps[name]()
            _wait(device)
            found[name].append(time.perf_counter() - start)
    return {name: Timing(tuple(seconds)) for name, seconds in found.items()}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def environment(device: torch.device, *packages: str) -> dict[str, Any]:
    """Hardware, versions (of ``packages`` too) and date that a result depends on."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{_cpu_name()}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    return {"device": name, "date": datetime.date.today().isoformat(), **versions(), **_versions_of(packages)}


def _versions_of(packages: tuple[str, ...]) -> dict[str, str]:
    return {name.removesuffix("-python-headless"): importlib.metadata.version(name) for name in packages}


def write_results(folder: str, stem: str, results: dict[str, Any], table: str) -> None:
    """Print the table and, where a folder is given, write ``stem.json`` and ``stem.md`` there."""
    print(table, end="")
    if folder:
        save_results(folder, stem, results, table)


def save_results(folder: str, stem: str, results: dict[str, Any], table: str) -> None:
    """Write ``stem.json`` and ``stem.md`` into the folder."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    Path(folder, f"{stem}.json").write_text(json.dumps(results, indent=1) + "\n")
    Path(folder, f"{stem}.md").write_text(table)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
