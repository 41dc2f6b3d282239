"""What the tests of kernels share: where they run, the numerical contract, memory that was never written.

On a machine with a GPU the kernels are compiled and run there, else Triton's interpreter runs them on the CPU,
in fp32 and fp16 (its bf16 is wrong).
"""

import contextlib
from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor

from deeplab_fast.ops.triton import missing
from tests.untraced import untraced

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPES = [torch.float32, torch.float16, *([torch.bfloat16] if DEVICE.type == "cuda" else [])]
MISSING = missing(DEVICE)
needs_kernels = pytest.mark.skipif(MISSING is not None, reason=f"no kernels: {MISSING}")


@contextlib.contextmanager
def poisoned() -> Iterator[None]:
    """Memory from torch.empty and its kin holds NaN, or the largest integer, until something is written there."""
    before = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        assert torch.empty(3, device=DEVICE).isnan().all()
        assert torch.empty(2, device=DEVICE).new_empty(3).isnan().all()
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)


def relative_error(found: Tensor, exact: Tensor) -> float:
    """Return the norm of the difference over the norm, in fp64; of an exact 0 the largest difference."""
    assert found.shape == exact.shape
    found, exact = found.detach(), exact.detach()
    difference = found.double().cpu() - exact.double().cpu()
    norm = exact.double().norm()
    return float(difference.norm() / norm if norm > 0 else difference.abs().max())


def check_contract(
    found: Sequence[Tensor],
    exact: Sequence[Tensor],
    plain: Sequence[Tensor],
    dtype: torch.dtype,
    factors: Sequence[int],
) -> None:
    """fp32 within 1e-5 of the exact result; lower precision no worse than ``factors`` times plain torch's error in it.

    An error below the rounding of a single value is none, and what is stored in fp32 has fp32's limit for its floor.
    """
    for i, (ours, truth, theirs, factor) in enumerate(zip(found, exact, plain, factors, strict=True)):
        error = relative_error(ours, truth)
        floor = 1e-5 if ours.dtype == torch.float32 else torch.finfo(ours.dtype).eps / 2
        limit = 1e-5 if dtype == torch.float32 else max(factor * relative_error(theirs, truth), floor)
        assert error <= limit, f"result {i}: error {error:.2e}, limit {limit:.2e}"


def opcheck(name, arguments):
    """Check the custom op ``deeplab_fast::name``: schema, fake outputs, gradients, tracing.

    The first two run its kernels and its registration; the others run them again under much of torch's own Python.
    """
    op = getattr(torch.ops.deeplab_fast, name).default
    torch.library.opcheck(op, arguments, test_utils=("test_schema", "test_faketensor"))
    with untraced():
        torch.library.opcheck(op, arguments, test_utils=("test_autograd_registration", "test_aot_dispatch_dynamic"))
