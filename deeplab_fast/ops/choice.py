"""Whether an op's kernels run: the meaning of ``fused = auto | on | off``."""

import logging

import torch

from deeplab_fast.errors import UserError

from .triton import INTERPRETED, missing

logger = logging.getLogger("deeplab_fast")

_told: set[tuple[str, str]] = set()


def use_kernels(op: str, fused: str, device: torch.device, unsupported: str | None) -> bool:
    """Whether the kernels of ``op`` run on ``device``, given its own reason why not.

    ``off``: never. ``on``: always. ``auto``: where there is a GPU and no reason against it, which is
    logged once; Triton's interpreter, which is slow, only serves ``on``.

    Raises:
        UserError: ``on``, and they cannot run; says why.
    """
    if fused == "off" or (fused == "auto" and (INTERPRETED or device.type == "cpu")):
        return False
    reason = missing(device) or unsupported
    if reason is None:
        return True
    if fused == "on":
        raise UserError(f"--fused=on: {op} cannot run fused: {reason}")
    tell(op, reason)
    return False


def tell(op: str, reason: str) -> None:
    """Log, once, why ``op`` runs unfused."""
    if not torch.compiler.is_compiling() and (op, reason) not in _told:
        _told.add((op, reason))
        logger.info("%s runs unfused: %s", op, reason)
