"""Report what this machine offers and, where something is missing, why: ``python -m deeplab_fast.runtime``."""

import os
from typing import Any

import torch

from ..cli import Parser, run
from ..ops import extension
from ..ops.conv import gemm, gemm_check
from ..requirements import untested
from .device import versions
from .precision import resolve_precision


def _cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def report() -> list[tuple[str, str]]:
    """Return (subject, finding) pairs of what this machine offers and, where something is missing, why."""
    lines: list[tuple[str, str]] = [("versions", ", ".join(f"{k} {v}" for k, v in versions().items()))]
    lines += [("  not tested", line) for line in untested()]
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


# What each optional part of the extension is for; the extension's own reason says how to get it.
_WORTH = {
    "JPEG": "images are decoded in C++; without it Python loads them, several times slower",
    "PNG": "labels are decoded in C++; without it Python loads them, several times slower",
    "deflate": "labels are inflated faster; without it the loader loses a quarter of its speed",
    "CUDA": "a GPU augments and counts; without it the CPU and Triton do",
    "GEMM": "a Hopper GPU has its fastest convolutions; without it cuDNN's run",
}


def print_missing(log: str) -> None:
    """Print which parts of the extension are missing, what each is for and how to get it; ``log``: the build's."""
    found = {part.strip(): finding for part, finding in extension.status()}
    if found["extension"].startswith("none: "):
        print(f"the extension is missing: {found['extension'].removeprefix('none: ')}\n  the build's log: {log}")
        return
    missing = [part for part in _WORTH if found[part].startswith("missing: ")]
    print("the extension is built, without:" if missing else "the extension is built, with all its parts")
    for part in missing:
        print(f"  {part:<8} {_WORTH[part]}\n  {'':<8} {found[part]}")
    if missing:
        print("  To have them, install what you want of these, then: make --always-make setup")


def main(argv: list[str]) -> int:
    """Print the report; return the exit status."""
    Parser(prog="python -m deeplab_fast.runtime", description="What this machine offers, and why not.").parse_args(argv)
    for subject, finding in report():
        print(f"{subject:<10} {finding}")
    return 0


if __name__ == "__main__":
    run(main)
