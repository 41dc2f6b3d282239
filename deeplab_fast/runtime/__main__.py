"""Report what this machine offers and, where something is missing, why: ``python -m deeplab_fast.runtime``."""

import os
from typing import Any

import torch

from ..cli import Parser, run
from ..ops import extension
from ..ops.conv import gemm, gemm_check
from .device import versions
from .precision import resolve_precision


def _cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def report() -> list[tuple[str, str]]:
    """Return (subject, finding) pairs of what this machine offers and, where something is missing, why."""
    lines: list[tuple[str, str]] = [("versions", ", ".join(f"{k} {v}" for k, v in versions().items()))]
    capability = torch.backends.cpu.get_cpu_capability()
    lines.append(("CPU", f"{_cores()} cores, {capability}"))
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            p: Any = torch.cuda.get_device_properties(i)
            lines.append((f"GPU {i}", f"{p.name}, sm_{p.major}{p.minor}, {p.total_memory / 2**30:.0f} GiB"))
    elif torch.version.cuda is None:
        lines.append(("GPU", "none: this torch is a CPU build; install a CUDA build of torch to use one"))
    else:
        lines.append(("GPU", "none: torch finds no CUDA device or driver"))
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    lines.append(("precision", f"auto is {resolve_precision('auto', device)}"))
    lines += extension.status()
    if device.type == "cuda":
        for kind in gemm_check.KINDS:
            wrong = gemm.missing(device) or gemm_check.disagreement(device, kind)
            lines.append((f"  {kind} convolutions", f"not used: {wrong}" if wrong else "agree with torch on this GPU"))
    return lines


def main(argv: list[str]) -> int:
    """Print the report; return the exit status."""
    Parser(prog="python -m deeplab_fast.runtime", description="What this machine offers, and why not.").parse_args(argv)
    for subject, finding in report():
        print(f"{subject:<10} {finding}")
    return 0


if __name__ == "__main__":
    run(main)
