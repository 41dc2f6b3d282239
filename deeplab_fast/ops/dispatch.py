"""Choice of who computes: an op's kernels or torch (``fused = auto | on | off``), said once; and functions made ops.

Between kernels of ours and the library's convolutions ``conv/route.py`` decides.

Where torch runs operations as they are called, an autograd.Function costs the host half of what a custom op does, which
counts with a hundred of them in a step. Where they are traced (torch.compile, FakeTensor) the custom op is needed.
"""

import functools
import logging
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

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


def is_eager(*values: Any) -> bool:
    """Tell whether operations on these run as they are called: nothing is compiled, and no tensor is a stand-in."""
    if torch.compiler.is_compiling():
        return False
    return all(type(value) in (Tensor, nn.Parameter) for value in values if isinstance(value, Tensor))


def is_inference(training: bool) -> bool:
    """Tell whether the output alone will be asked for, so that a BatchNorm can be folded into its convolution."""
    return not training and not torch.is_grad_enabled()


def traceable(
    name: str, function: Callable[P, R], fake: Callable[P, R], mutates: tuple[str, ...] = ()
) -> Callable[P, R]:
    """Return ``function``, which runs kernels, so that it can be traced too: then it is ``deeplab_fast::name``.

    Args:
        name: of the custom op.
        function: takes and returns tensors and constants, annotated; it has no gradient.
        fake: returns empty tensors of the same shapes, types and strides.
        mutates: names of the arguments that are written to.
    """
    op = _custom_op(name, function, fake, mutates)

    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if not is_eager(*args):
            return op(*args, **kwargs)
        with torch.no_grad():
            return function(*args, **kwargs)

    return run


def differentiable(
    name: str, forward: Callable[P, R], fake: Callable[P, R], setup_context: Callable[..., None], backward: Callable
) -> Callable[P, R]:
    """Return ``forward`` with the gradient ``backward``: an autograd.Function, or traced ``deeplab_fast::name``.

    Args:
        name: of the custom op.
        forward, fake: as of :func:`traceable`; called with positional arguments.
        setup_context, backward: as of :class:`torch.autograd.Function`.
    """
    op = _custom_op(name, forward, fake, ())
    op.register_autograd(backward, setup_context=setup_context)
    once = torch.autograd.function.once_differentiable(backward)
    methods = {"forward": forward, "setup_context": setup_context, "backward": once}
    function = type(name, (torch.autograd.Function,), {key: staticmethod(method) for key, method in methods.items()})

    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        return (function.apply if is_eager(*args) else op)(*args, **kwargs)  # type: ignore[attr-defined]

    return run


def _custom_op(name: str, function: Callable, fake: Callable, mutates: tuple[str, ...]) -> Any:
    op = torch.library.custom_op(f"deeplab_fast::{name}", function, mutates_args=mutates)
    op.register_fake(fake)
    return op


def use_kernels(op: str, fused: str, device: torch.device, unsupported: str | None) -> bool:
    """Tell whether the kernels of ``op`` run on ``device``, given its own reason why not.

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
    log_once(op, reason)
    return False


def check_fused(fused: str, device: torch.device) -> None:
    """Refuse ``on`` where no kernel can run on ``device``, before any work.

    Raises:
        UserError: says why.
    """
    if fused == "on" and (reason := missing(device)) is not None:
        raise UserError(f"--fused=on: the kernels cannot run: {reason}")


def log_once(op: str, reason: str) -> None:
    """Log once why ``op`` runs unfused."""
    if not torch.compiler.is_compiling() and (op, reason) not in _told:
        _told.add((op, reason))
        logger.info("%s runs unfused: %s", op, reason)
