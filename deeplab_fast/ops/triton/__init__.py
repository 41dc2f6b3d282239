"""Triton kernels and their launchers; the ops in the folder above are their only callers.

Importing this package imports nothing of Triton's: the kernel modules do, and are imported when first used.
"""

import importlib.util
import os

import torch

from ...requirements import installed, release
from ...runtime.switches import ON

# Triton reads the variable when a kernel is decorated, so it must not change afterwards.
INTERPRETED = os.environ.get("TRITON_INTERPRET", "").lower() in ON
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_OLDEST = (8, 0)  # bf16 and the asynchronous copies begin there
_INSTALLED = importlib.util.find_spec("triton") is not None


def _unfit(triton: str | None, numpy: str | None) -> str | None:
    """Return why the interpreter of this Triton cannot run beside this NumPy, or None where it can."""
    if not triton or not numpy or release(triton) >= (3, 7) or release(numpy) < (2, 4):
        return None
    return f"the interpreter of Triton {triton} needs NumPy older than 2.4; {numpy} is installed"


_UNFIT = _unfit(installed("triton"), installed("numpy")) if INTERPRETED else None


def missing(device: torch.device) -> str | None:
    """Return why no kernel can run on ``device``, or None where they can."""
    if not _INSTALLED:
        return "Triton is not installed (pip install triton; Linux on x86-64 only)"
    if device.type == "cpu":
        return _UNFIT if INTERPRETED else "Triton needs a CUDA GPU (or TRITON_INTERPRET=1, slow, to debug a kernel)"
    if device.type != "cuda":
        return f"no kernels for {device.type}"
    if not INTERPRETED and torch.cuda.get_device_capability(device) < _OLDEST:
        return "the GPU is older than compute capability 8.0 (Ampere)"
    return None
