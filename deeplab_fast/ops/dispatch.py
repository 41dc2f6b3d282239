"""Whether an op's kernels run: the meaning of ``fused = auto | on | off``."""

import functools
import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from deeplab_fast.errors import UserError

from .triton import INTERPRETED, missing

logger = logging.getLogger("deeplab_fast")

P = ParamSpec("P")
R = TypeVar("R")

_told: set[tuple[str, str]] = set()


def constant(function: Callable[P, R]) -> Callable[P, R]:
    """Let torch.compile take what ``function`` returns as a constant, and not look into it.

    What torch.compiler.assume_constant_result does, but for importing torch._dynamo: half of a program's start, 1.5 s.
    """

    @functools.wraps(function)
    def whole(*args: P.args, **kwargs: P.kwargs) -> R:
        return function(*args, **kwargs)

    whole._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return whole


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
