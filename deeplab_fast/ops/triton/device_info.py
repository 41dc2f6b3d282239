"""Facts about a GPU that the launchers of convolutions need; where there is none (interpreted), an H200's."""

import torch

from . import INTERPRETED

HOPPER, BLACKWELL, CONSUMER_BLACKWELL = 90, 100, 120
_H200_NAME, _H200_MULTIPROCESSORS = "NVIDIA H200", 132


def architecture(device: torch.device) -> int:
    """Return the compute capability, 10 * major + minor."""
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
    """Tell whether kernels get descriptors, for the tensor memory accelerator, or pointers.

    Consumer GPUs of compute capability 12 have it, but less than half the shared memory that the tiles then need.
    """
    return HOPPER <= architecture(device) < CONSUMER_BLACKWELL


def is_wide(x: torch.Tensor) -> bool:
    """Tell whether ``x``, of any shape, is fp32, which has tiles of its own; not so in the interpreter."""
    return x.dtype == torch.float32 and not INTERPRETED


def multiprocessors(device: torch.device) -> int:
    """Count the persistent programs that the GPU runs at a time, if one fills a multiprocessor."""
    if device.type != "cuda":
        return _H200_MULTIPROCESSORS
    return torch.cuda.get_device_properties(device).multi_processor_count
