"""The arithmetic of the network: what ``--precision`` means on a device."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import torch

from ..config.shared import AutoOrPrecision
from ..config.shared import Precision as PrecisionName
from ..errors import UserError

logger = logging.getLogger("deeplab_fast")

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# Where bf16 is multiplied natively: by a GPU's tensor cores from this compute capability on, by a CPU with one of these
# flags in /proc/cpuinfo, the fastest first.
_BF16_CAPABILITY = (8, 0)
_BF16_INSTRUCTIONS = {"amx_bf16": "AMX", "avx512_bf16": "AVX512_BF16"}


def check_precision(precision: str, device: torch.device) -> None:
    """Raise :class:`UserError` where the device has no use for the precision."""
    if precision == "fp16" and device.type == "cpu":
        raise UserError("--precision=fp16: needs a GPU; on a CPU use fp32 or bf16")


class Precision(NamedTuple):
    """The arithmetic of a network, and why it is this one."""

    name: PrecisionName
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


def resolve_precision(asked: AutoOrPrecision, device: torch.device) -> Precision:
    """Return the precision that ``--precision`` means on ``device``: auto is bf16 where that is native, else fp32."""
    if asked == "fp32" or asked == "fp16":
        return Precision(asked, "as asked")
    native, lacking = _bf16_on(device)
    if asked == "auto":
        return Precision("bf16", native) if native else Precision("fp32", lacking)
    return Precision("bf16", "as asked" if native else f"as asked, although {lacking}")


def _bf16_on(device: torch.device) -> tuple[str, str]:
    """Return what multiplies bf16 natively on ``device``, or nothing and why it is slow there."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        native = "tensor cores" if (major, minor) >= _BF16_CAPABILITY else ""
        return native, f"this GPU does not multiply bf16 natively: sm_{major}{minor}, older than sm_80"
    return cpu_bf16_instructions(), "this CPU does not multiply bf16 natively: no AMX, no AVX512_BF16"


def cpu_bf16_instructions() -> str:
    """Name the CPU's instructions that multiply bf16; empty where it has none: bf16 is a third as fast as fp32 then."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            flags = next((line.split() for line in file if line.startswith("flags")), [])
    except OSError:
        return ""
    return next((name for flag, name in _BF16_INSTRUCTIONS.items() if flag in flags), "")


def common_precision(found: Sequence[Precision]) -> Precision:
    """Return the precision for all processes from what each, by rank, found for itself: fp32 where one of them did."""
    rank = next((rank for rank, one in enumerate(found) if one.name == "fp32"), 0)
    chosen = found[rank]
    if all(one.name == chosen.name for one in found):
        return chosen
    return chosen._replace(reason=f"rank {rank}: {chosen.reason}")


def keep_precision(began: PrecisionName, here: Precision, device: torch.device, folder: str) -> Precision:
    """Return the precision in which auto continues what began in ``began``, and say where it would choose another here.

    ``folder``: the flag with the folder that holds what was begun.

    Raises:
        UserError: the device has no use for it.
    """
    if began == here.name:
        return here
    if began == "fp16" and device.type == "cpu":
        raise UserError(f"{folder}: began in fp16, which needs a GPU; continue on one, or choose another folder")
    logger.info("%s: goes on in %s, as it began; auto would begin in %s here", folder, began, here)
    return Precision(began, "as it began")


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the context in which the network runs in ``precision``."""
    return torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32")
