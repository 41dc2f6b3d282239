"""The machine: its device, arithmetic and seeds, and a report of what it offers.

``python -m deeplab_fast.runtime`` prints the report.
"""

import contextlib
import importlib.metadata
import logging
import os
import platform
import signal
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, NamedTuple, TypeVar

import torch

from .errors import Interrupted, UserError

logger = logging.getLogger("deeplab_fast")

M = TypeVar("M", bound=torch.nn.Module)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# Where bf16 is multiplied natively: by a GPU's tensor cores from this compute capability on, by a CPU with one of these
# flags in /proc/cpuinfo, the fastest first.
_BF16_CAPABILITY = (8, 0)
_BF16_INSTRUCTIONS = {"amx_bf16": "AMX", "avx512_bf16": "AVX512_BF16"}


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
    processes = max(local_rank + 1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))  # each of them finds the same
    if processes > torch.cuda.device_count():
        raise UserError(f"torchrun started more processes than the {torch.cuda.device_count()} GPUs of this host")
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def check_precision(precision: str, device: torch.device) -> None:
    """Raise :class:`UserError` where the device has no use for the precision."""
    if precision == "fp16" and device.type == "cpu":
        raise UserError("--precision=fp16: needs a GPU; on a CPU use fp32 or bf16")


class Precision(NamedTuple):
    """The arithmetic of a network, and why it is this one."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


def resolve_precision(asked: str, device: torch.device) -> Precision:
    """Return the precision that ``--precision`` means on ``device``: auto is bf16 where that is native, else fp32."""
    if asked != "auto":
        return Precision(asked, "as asked")
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if (major, minor) >= _BF16_CAPABILITY:
            return Precision("bf16", "tensor cores")
        return Precision("fp32", f"this GPU does not multiply bf16 natively: sm_{major}{minor}, older than sm_80")
    instructions = cpu_bf16_instructions()
    if instructions:
        return Precision("bf16", instructions)
    return Precision("fp32", "this CPU does not multiply bf16 natively: no AMX, no AVX512_BF16")


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


def keep_precision(began: str, here: Precision, device: torch.device, folder: str) -> Precision:
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


class StopRequest:
    """A wish to stop, from the first SIGTERM or Ctrl-C; a second one stops at once, but not within a save."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._deferring = self._again = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = signal.Signals(number)
        elif self._deferring:
            self._again = True
        else:
            raise Interrupted(self.signal)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Let a second signal wait until the block is done: it must not tear what is being written."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        if self._again and self.signal is not None:
            raise Interrupted(self.signal)

    @contextlib.contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Take the two signals within the block."""
        old = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield self
        finally:
            for s, handler in old.items():
                signal.signal(s, handler)


@contextlib.contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that nothing half written stays behind."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted(signal.Signals(number))

    old = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    found = {"python": platform.python_version(), "torch": str(torch.__version__)}
    for name in ("deeplab_fast", "numpy", "pillow", "triton"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def report() -> list[tuple[str, str]]:
    """Return (subject, finding) pairs of what this machine offers and, where something is missing, why."""
    lines: list[tuple[str, str]] = [("versions", ", ".join(f"{k} {v}" for k, v in versions().items()))]
    capability = torch.backends.cpu.get_cpu_capability()
    lines.append(("CPU", f"{_cores()} cores, {capability}"))
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            p: Any = torch.cuda.get_device_properties(i)
            lines.append((f"GPU {i}", f"{p.name}, sm_{p.major}{p.minor}, {p.total_memory / 2**30:.0f} GiB"))
    elif torch.version.cuda is None:
        lines.append(("GPU", "none: this torch is a CPU build; install a CUDA build of torch to use one"))
    else:
        lines.append(("GPU", "none: torch finds no CUDA device or driver"))
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    lines.append(("precision", f"auto is {resolve_precision('auto', device)}"))
    from .ops import extension
    from .ops.conv import gemm, gemm_check

    lines += extension.status()
    if device.type == "cuda":
        for kind in gemm_check.KINDS:
            wrong = gemm.missing(device) or gemm_check.disagreement(device, kind)
            lines.append((f"  {kind} convolutions", f"not used: {wrong}" if wrong else "agree with torch on this GPU"))
    return lines


def main(argv: list[str]) -> int:
    """Print the report; return the exit status."""
    from .cli import Parser

    Parser(prog="python -m deeplab_fast.runtime", description="What this machine offers, and why not.").parse_args(argv)
    for subject, finding in report():
        print(f"{subject:<10} {finding}")
    return 0


if __name__ == "__main__":
    from .cli import run

    run(main)
