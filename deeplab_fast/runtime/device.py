"""The device, what makes its arithmetic repeat, and the versions that a result depends on."""

import contextlib
import functools
import importlib.metadata
import platform
from typing import TypeVar

import torch

from ..config.whole_number import environment_number
from ..errors import UserError

M = TypeVar("M", bound=torch.nn.Module)


def select_device(target: str, local_rank: int = 0) -> torch.device:
    """Return the device that ``--device_target`` names.

    Raises:
        UserError: a GPU is asked for and there is none, or fewer than processes on this host.
    """
    available = torch.cuda.is_available()
    if target == "GPU" and not available:
        raise UserError("--device_target=GPU: no CUDA GPU is usable here; see python -m deeplab_fast.runtime")
    if target == "CPU" or not available:
        return torch.device("cpu")
    processes = max(local_rank + 1, environment_number("LOCAL_WORLD_SIZE", 1, least=1))  # each of them finds the same
    if processes > torch.cuda.device_count():
        raise UserError(f"torchrun started more processes than the {torch.cuda.device_count()} GPUs of this host")
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def to_channels_last(model: M, device: torch.device) -> M:
    """Move ``model`` to ``device``, its convolution weights to channels-last storage."""
    return model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def prepare_backends(device: torch.device) -> None:
    """Make arithmetic on a GPU deterministic, and fp32 no less than fp32.

    cuDNN must not choose its algorithms by timing them: another process might choose others, and a
    resumed run would not have the same bits.
    """
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = False


def seed_everything(seed: int) -> None:
    """Seed torch's generators on all devices."""
    torch.manual_seed(seed)


def rng_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the states of the generators that training draws from: bytes of shape ``[n]``."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_rng_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Set the generators as :func:`rng_state` found them."""
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    return dict(_versions())


@functools.cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "torch": str(torch.__version__)}
    for name in ("deeplab_fast", "numpy", "pillow", "triton"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
