"""The place of a measurement: the machine, versions and the commit that its figures depend on."""

import datetime
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from .device import versions

NOT_RECORDED = "not recorded"


def environment(device: torch.device, *packages: str) -> dict[str, Any]:
    """Return hardware, versions (of ``packages`` too), commit and date that a result depends on."""
    cpu, threads = _cpu_name(), torch.get_num_threads()
    name = f"{cpu}, {threads} threads, {torch.backends.cpu.get_cpu_capability()}"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    where = {"device": name, "cpu": cpu, "threads": threads, "date": datetime.date.today().isoformat()}
    others = {p.removesuffix("-python-headless"): importlib.metadata.version(p) for p in packages}
    return {**where, **commit(), **versions(), **gpu_versions(device), **others}


def commit(folder: Path = Path(__file__).parent) -> dict[str, Any]:
    """Return the commit that runs, and whether a tracked file differs from it (``dirty``).

    It is not recorded where ``folder`` is not under version control, as that of an installed package is not.
    """
    if not _answer("git", "-C", str(folder), "ls-files", "."):
        return {"commit": NOT_RECORDED}
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


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
