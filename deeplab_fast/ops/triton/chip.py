"""What the launchers of convolutions need to know of a GPU; where there is none (interpreted), an H200's."""

import torch

from . import INTERPRETED

HOPPER, BLACKWELL, CONSUMER_BLACKWELL = 90, 100, 120
_H200_NAME, _H200_MULTIPROCESSORS = "NVIDIA H200", 132


def architecture(device: torch.device) -> int:
    """The compute capability, 10 * major + minor."""
    if device.type != "cuda" or INTERPRETED:
        return HOPPER
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def name(device: torch.device) -> str:
    """Return what the driver calls the GPU: other memory or clocks make other kernels the fastest."""
    if device.type != "cuda" or INTERPRETED:
        return _H200_NAME
    return torch.cuda.get_device_name(device)


def has_tma(device: torch.device) -> bool:
    """Whether kernels get descriptors, for the tensor memory accelerator, or pointers.

    Consumer GPUs of compute capability 12 have it, but less than half the shared memory that the tiles then need.
    """
    return HOPPER <= architecture(device) < CONSUMER_BLACKWELL


def is_wide(x: torch.Tensor) -> bool:
    """Whether ``x`` is fp32, which has tiles of its own, but in the interpreter, where no register runs out."""
    return x.dtype == torch.float32 and not INTERPRETED


def multiprocessors(device: torch.device) -> int:
    """How many persistent programs the GPU runs at a time, if one fills a multiprocessor."""
    if device.type != "cuda":
        return _H200_MULTIPROCESSORS
    return torch.cuda.get_device_properties(device).multi_processor_count
