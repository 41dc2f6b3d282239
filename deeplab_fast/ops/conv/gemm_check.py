"""A check that the products for BatchNorm (``gemm.py``) compute on this GPU what their references do.

The first time on a GPU, with a driver and a build, a process of its own compares them, so that a kernel that hangs or
breaks its CUDA context takes no training run with it. What it found is kept in the cache folder.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ...errors import UserError
from ...storage.files import default_cache, read_json, replace_file
from .. import extension
from ..dispatch import constant
from . import gemm

KINDS = ("1x1", "3x3")
_PATIENCE = 120.0  # seconds, of which importing torch takes most
_NO_GPU = 3  # exit status: the process could not have the GPU
# Rows, channels in and out: ragged all, of both widths of tile; the last has three tiles for each of an H200's
# multiprocessors, and more to sum than the pipeline holds, so that each block goes through all that it does twice.
_PRODUCTS = ((300, 72, 40), (129, 136, 200), (52_000, 520, 72))
# Images, height, width, rate, channels in and out; in pixel-major order too.
_MAPS = ((2, 9, 7, 1, 72, 40), (3, 5, 11, 4, 136, 200), (48, 33, 33, 2, 72, 40))


@constant
@cache
def disagreement(device: torch.device, kind: str) -> str | None:
    """Say which kernel of ``kind`` disagrees with its reference on this GPU, or None. Asked once in a process.

    ``kind``: ``1x1`` or ``3x3``.
    """
    if device.type != "cuda":
        return None
    place = _place(device, kind)
    if place is not None:
        try:
            kept = read_json(place)["disagreement"]
            return kept and f"{kept} (kept in {place}; without that file they are compared again)"
        except (OSError, ValueError, KeyError, TypeError):
            pass
    found, is_certain = _asked_elsewhere(device, kind)
    if place is not None and is_certain:
        _remember(place, {"gpu": torch.cuda.get_device_name(device), "disagreement": found})
    return found


def _place(device: torch.device, kind: str) -> Path | None:
    """Return where the verdict is kept; None for a user without a home."""
    try:
        return default_cache() / "gemm-check" / f"{_identity(device)}-{kind}.json"
    except RuntimeError:
        return None


def _identity(device: torch.device) -> str:
    """Digest of what a verdict holds for: the GPU, its driver and CUDA, and the build."""
    module, _ = extension.gemm()
    build = Path(module.__file__).read_bytes() if module is not None and module.__file__ else b""
    try:
        driver = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        driver = ""
    about = (torch.cuda.get_device_name(device), driver, torch.version.cuda, torch.__version__)
    return hashlib.sha256(repr(about).encode() + build).hexdigest()[:24]


def _asked_elsewhere(device: torch.device, kind: str) -> tuple[str | None, bool]:
    """Return the verdict of a process of its own (this one where a GPU takes no second), and whether it is one: one
    that hangs or breaks may have had another reason, and the next run asks anew.
    """
    index = torch.cuda.current_device() if device.index is None else device.index
    command = [sys.executable, "-m", __name__, kind, str(index)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return f"the {kind} products gave no answer in {_PATIENCE:.0f} s", False
    except OSError:
        return compared(device, kind), True
    if done.returncode == _NO_GPU:
        return compared(device, kind), True
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return f"comparing the {kind} products ended with status {done.returncode}: {last}", False
    return done.stdout.strip() or None, True


def _remember(place: Path, content: dict[str, str | None]) -> None:
    """Without a folder to write in, each process asks anew."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(place, durable=False) as partial:
            partial.write_text(json.dumps(content) + "\n")
    except (OSError, UserError):
        pass


def compared(device: torch.device, kind: str) -> str | None:
    """Compare each kernel of ``kind`` with its reference on small random problems; say which disagrees, or None.

    Ragged rows and channels, each type, each order of pixels: a tenth of a second.
    """
    cases = _products(device) if kind == "1x1" else _convolutions(device)
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        for what, dtype, found, expected in cases:
            if reason := _difference(found, expected, dtype):
                return f"{what} of {dtype}: {reason}"
    return None


Case = tuple[str, torch.dtype, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]


def _products(device: torch.device) -> Iterator[Case]:
    for dtype in gemm.TYPES:
        for rows, c, k in _PRODUCTS:
            draw = _Draw(device, dtype)
            a, weight = draw(rows, c).relu_(), draw(k, c) / c**0.5
            yield "a product", dtype, gemm.product(a, weight), gemm.product_reference(a, weight)
            dy, norm, added = draw(rows, k), draw.norm(rows, c), draw(rows, c)
            for others in ((), (added, a)):
                found = gemm.norm_gradient(dy, weight, norm, *others)
                expected = gemm.norm_gradient_reference(dy, weight, norm, *others)
                yield f"a gradient{', with a residual,' if others else ''}", dtype, found, expected


def _convolutions(device: torch.device) -> Iterator[Case]:
    dtype = torch.bfloat16
    for order in (False, True):
        for n, h, w, rate, c, k in _MAPS:
            window = gemm.Window(n, h, w, rate, is_pixel_major=order)
            rows, draw = n * h * w, _Draw(device, dtype)
            a, weight, dy, norm = draw(rows, c), draw(k, 3, 3, c) / (9 * c) ** 0.5, draw(rows, k), draw.norm(rows, c)
            found, expected = (f(a, weight, window) for f in (gemm.product, gemm.product_reference))
            yield "a 3x3 convolution", dtype, found, expected
            found, expected = (
                f(dy, weight, norm, window=window) for f in (gemm.norm_gradient, gemm.norm_gradient_reference)
            )
            yield "a gradient of a 3x3 convolution", dtype, found, expected


class _Draw:
    """Random tensors, the same at every start."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.generator = torch.Generator(device).manual_seed(0)

    def __call__(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        values = torch.randn(shape, generator=self.generator, device=self.device)
        return values.to(self.dtype if dtype is None else dtype)

    def norm(self, rows: int, channels: int) -> gemm.NormInput:
        mean, variance, weight, bias = (self(channels, dtype=torch.float32) for _ in range(4))
        return gemm.NormInput(self(rows, channels), mean, variance.abs() + 0.5, weight, bias, 1e-5)


def _difference(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], dtype: torch.dtype) -> str | None:
    """Say how far the result, or a kind of sums, is from the reference's, where that is more than roundings."""
    results = [("the result", found[0], expected[0], torch.finfo(dtype).eps)]
    for i in range(found[1].shape[1]):  # each by itself: a count is a hundred times a mean
        results.append((f"sum {i} of its parts", found[1][:, i], expected[1][:, i], 5e-3))
    for what, ours, theirs, limit in results:
        error = float((ours.double() - theirs.double()).norm() / theirs.double().norm())
        if not error <= limit:
            return f"{what} is {error:.1e} off the reference's; expected at most {limit:.1e}"
    return None


def main() -> int:
    """Print the verdict of ``KIND`` on the GPU of that number, nothing where all agree."""
    kind, index = sys.argv[1], int(sys.argv[2])
    try:
        device = torch.device("cuda", index)
        torch.cuda.set_device(device)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError):
        return _NO_GPU
    print(compared(device, kind) or "", end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
