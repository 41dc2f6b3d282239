"""The machine: its device, its memory and the network's arithmetic."""

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
from .quiet import quiet

__all__ = [
    "DTYPES",
    "Precision",
    "autocast",
    "check_precision",
    "common_precision",
    "cpu_bf16_instructions",
    "keep_precision",
    "peak_memory",
    "prepare_backends",
    "quiet",
    "resolve_precision",
    "restore_rng_state",
    "rng_state",
    "seed_everything",
    "select_device",
    "to_channels_last",
    "usable_memory",
    "versions",
]
