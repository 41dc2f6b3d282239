"""A kernel's case: what the cases of all kernels share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deeplab_fast.config.flags import flag
from deeplab_fast.config.shared import Precision
from deeplab_fast.errors import UserError
from deeplab_fast.ops.triton import missing
from deeplab_fast.ops.triton.launch import Launch

OURS, EAGER, COMPILED = "ours", "torch eager", "torch.compile"
DRY_RUN = "A dry run: tiny shapes, and the times mean nothing."


@dataclass(frozen=True, kw_only=True)
class KernelsConfig:
    """Kernels"""

    batch_size: int = flag(32, "Images.", minimum=1)
    crop_size: int = flag(513, "Side of the images.", minimum=17)
    precision: Precision = flag("bf16", "Type of the activations.")
    rounds: int = flag(50, "Timed rounds.", minimum=4)
    only: str = flag("", "Only the cases whose name contains this.")
    compile: bool = flag(True, "Time torch.compile too.")
    dry_run: bool = flag(False, "Tiny shapes, fp32, in the interpreter where there is no GPU; times mean nothing.")
    out: str = flag("", "Folder for kernels.json and kernels.md.")


@dataclass
class Case:
    """Implementations of one thing. ``launches`` where its bytes can be counted; ``exact`` where it can be checked."""

    name: str
    steps: dict[str, Callable[[], Any]]
    exact: Callable[[], list[Tensor]] | None = None
    launches: list[Launch] | None = None


def kernel_device(dry_run: bool) -> torch.device:
    """Return the device that the kernels are timed on.

    Raises:
        UserError: they cannot run, or there is no GPU and this is no dry run.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if reason := missing(device):
        raise UserError(f"the kernels cannot run: {reason}")
    if device.type == "cpu" and not dry_run:
        raise UserError("no CUDA GPU: only --dry_run=True of kernels and tune_tiles makes sense here")
    return device


def sides(crop: int) -> dict[str, tuple[int, int]]:
    """(side, channels) of the layers whose activations are normalised, at output stride 16."""
    half = (crop + 1) // 2
    quarter = (half + 1) // 2
    eighth = (quarter + 1) // 2
    low = (eighth + 1) // 2
    return {
        "layer1 out": (quarter, 256),
        "layer1 inner": (quarter, 64),
        "layer2 out": (eighth, 512),
        "layer3 out": (low, 1024),
        "layer3 inner": (low, 256),
        "layer4 out": (low, 2048),
        "layer4 inner": (low, 512),
    }


def gradients(y: Tensor, inputs: list[Tensor], dy: Tensor) -> list[Tensor]:
    return [y.detach(), *torch.autograd.grad(y, inputs, dy)]


def activation(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Random: zeros run faster than data does."""
    return torch.randn(shape, device=device, dtype=dtype).to(memory_format=torch.channels_last)


def widen(value: Tensor) -> Tensor:
    return value.detach().double().requires_grad_()


def with_compiled(config: KernelsConfig, ours: Callable[[], Any], plain: Callable[[], Any]) -> dict[str, Any]:
    steps = {OURS: ours, EAGER: plain}
    if config.compile and not config.dry_run:
        steps[COMPILED] = torch.compile(plain)
    return steps
