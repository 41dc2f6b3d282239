"""Timing that can be believed: warm-up, interleaving, order swapped, median and spread; and where it was taken."""

import datetime
import importlib.metadata
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from deeplab_fast.runtime import versions
from deeplab_fast.storage.files import make_folder, replace_file

K = TypeVar("K")
NOT_RECORDED = "not recorded"


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
    """Return hardware, versions (of ``packages`` too), commit and date that a result depends on."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{_cpu_name()}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    when = {"device": name, "date": datetime.date.today().isoformat()}
    return {**when, **commit(), **versions(), **gpu_versions(device), **_versions_of(packages)}


def commit(folder: Path = Path(__file__).parent) -> dict[str, Any]:
    """Return the commit that runs, and whether a tracked file differs from it (``dirty``)."""
    hash_ = _answer("git", "-C", str(folder), "rev-parse", "HEAD")
    changes = _answer("git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no")
    if hash_ is None or changes is None:
        return {"commit": NOT_RECORDED}
    return {"commit": hash_[:12], "dirty": bool(changes)}


def gpu_versions(device: torch.device) -> dict[str, str]:
    """Return what a GPU's results depend on beside torch: CUDA, cuDNN and the driver; of a CPU nothing."""
    if device.type != "cuda":
        return {}
    driver = _answer("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", f"--id={device.index or 0}")
    return {
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
        "driver": driver or NOT_RECORDED,
    }


def _answer(*command: str) -> str | None:
    """Run a program and return what it prints; None where it is not there or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _versions_of(packages: tuple[str, ...]) -> dict[str, str]:
    return {name.removesuffix("-python-headless"): importlib.metadata.version(name) for name in packages}


def write_results(folder: str, stem: str, results: dict[str, Any], table: str) -> None:
    """Print the table and, where a folder is given, write ``stem.json`` and ``stem.md`` there."""
    print(table, end="")
    if folder:
        save_results(folder, stem, results, table)


def save_results(folder: str, stem: str, results: dict[str, Any], table: str) -> None:
    """Write ``stem.json`` and ``stem.md`` into the folder, each whole or not at all."""
    make_folder(Path(folder), folder)
    for name, text in ((f"{stem}.json", json.dumps(results, indent=1) + "\n"), (f"{stem}.md", table)):
        with replace_file(Path(folder, name), durable=False) as partial:
            partial.write_text(text)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
