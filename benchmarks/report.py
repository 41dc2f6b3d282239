"""Flags and results of every benchmark: where a result was taken, JSON and tables."""

import datetime
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch

from deeplab_fast.cli import parse_flags
from deeplab_fast.config.flags import validate
from deeplab_fast.runtime import versions
from deeplab_fast.storage.files import make_folder, replace_file

from .registry import BENCHMARKS
from .timing import Timing

C = TypeVar("C")
NOT_RECORDED = "not recorded"


def configure(config_class: type[C], argv: Sequence[str], name: str) -> C:
    """Return a benchmark's configuration from its flags, checked.

    Raises:
        UserError: a flag that is not known, or a value that is not allowed.
    """
    config = config_class(**parse_flags(config_class, argv, f"benchmarks.{name}", BENCHMARKS[name].measures))
    validate(config)
    return config


def settings(config: Any, *left_out: str) -> dict[str, Any]:
    """Return a configuration as a result file holds it: without paths, and without what is ``left_out``."""
    paths = ("data_", "ckpt_", "label_dir")
    return {k: v for k, v in asdict(config).items() if not k.startswith(paths) and k not in ("out", *left_out)}


def beside(timings: Mapping[str, Timing], ours: str) -> dict[str, dict[str, dict[str, float]]]:
    """Return what a result file holds of times: ``timings``, and ``ratios``, the others' over ours in each round."""
    return {
        "timings": {name: t.in_ms() for name, t in timings.items()},
        "ratios": {name: t.over(timings[ours]).summary() for name, t in timings.items() if name != ours},
    }


def times(entry: Mapping[str, float], digits: int = 2) -> str:
    """Return two cells: the median and the quartiles, in ms."""
    return f"{entry['median_ms']:.{digits}f} | {entry['q1_ms']:.{digits}f} - {entry['q3_ms']:.{digits}f}"


def spread(ratio: Mapping[str, float] | None, digits: int = 2) -> str:
    """Return a median with its quartiles; nothing where there is none."""
    if not ratio:
        return ""
    return f"{ratio['median']:.{digits}f} ({ratio['q1']:.{digits}f} - {ratio['q3']:.{digits}f})"


def as_table(header: str, rows: Iterable[Iterable[object]]) -> list[str]:
    """Return the lines of a markdown table; ``header``: its names with ``|`` between."""
    return [f"| {header} |", "|" + "---|" * (header.count("|") + 1), *(f"| {' | '.join(map(str, r))} |" for r in rows)]


def as_text(title: str, table: Iterable[str], *after: str) -> str:
    """Return a result's markdown: a title, a table and what is to be said below it."""
    return "\n".join([title, "", *table, *(f"\n{text}" for text in after)]) + "\n"


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


def write_results(folder: str, stem: str, results: dict[str, Any], table: str) -> None:
    """Print the table and, where a folder is given, write ``stem.json`` and ``stem.md`` there."""
    print(table, end="")
    if folder:
        save_results(folder, stem, results, table)


def publish(
    stem: str, config: Any, where: dict[str, Any], found: dict[str, Any], as_markdown: Callable[[dict[str, Any]], str]
) -> int:
    """Write what was found, where and by which settings, as JSON and markdown; return the exit status."""
    results = {"environment": where, "config": settings(config), **found}
    write_results(config.out, stem, results, as_markdown(results))
    return 0


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
