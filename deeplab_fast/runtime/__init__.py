"""The machine: its device, the network's arithmetic, and the signals that a run is sent."""

from .device import (
    prepare_backends,
    restore_rng_state,
    rng_state,
    seed_everything,
    select_device,
    to_channels_last,
    versions,
)
from .memory import peak_memory, usable_memory
from .precision import (
    DTYPES,
    Precision,
    autocast,
    check_precision,
    common_precision,
    cpu_bf16_instructions,
    keep_precision,
    resolve_precision,
)
from .signals import StopRequest, sigterm_interrupts, stop_is_asked

__all__ = [
    "DTYPES",
    "Precision",
    "StopRequest",
    "autocast",
    "check_precision",
    "common_precision",
    "cpu_bf16_instructions",
    "keep_precision",
    "peak_memory",
    "prepare_backends",
    "resolve_precision",
    "restore_rng_state",
    "rng_state",
    "seed_everything",
    "select_device",
    "sigterm_interrupts",
    "stop_is_asked",
    "to_channels_last",
    "usable_memory",
    "versions",
]
