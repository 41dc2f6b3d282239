"""The interpreter as the tests use it: quicker, with the same results."""

import pytest
import torch

from tests.ops.interpreter import PatchOnce
from tests.ops.kernels import DEVICE, needs_kernels

pytestmark = [
    pytest.mark.gpu,
    needs_kernels,
    pytest.mark.skipif(DEVICE.type == "cuda", reason="a GPU runs the kernels"),
]


def test_the_language_is_replaced_once_a_launch(monkeypatch):
    """And given back after it: by each of two launches the kernel's module's, and that of Triton's own functions."""
    from triton.runtime import interpreter

    from deeplab_fast.ops.norm.triton.batch_norm_stats import batch_norm_stats

    assert isinstance(interpreter._patch_lang, PatchOnce), "Triton has other names now: tests/ops/interpreter.py"
    patches, real = [], interpreter._patch_lang.patch
    monkeypatch.setattr(interpreter._patch_lang, "patch", lambda fn: patches.append(fn.__module__) or real(fn))
    x = torch.randn(300, 8)
    for _ in range(2):
        patches.clear()
        mean, variance = batch_norm_stats(x, torch.zeros(8), torch.ones(8), 0.1)
        assert 1 <= len(patches) <= 2 * 2  # launches of a kernel and the one that merges its parts
        assert not interpreter._patch_lang.done
        torch.testing.assert_close(mean, x.mean(0))
        torch.testing.assert_close(variance, x.var(0, correction=0))


def test_where_it_cannot_run_the_reason_names_both_versions():
    """Triton 3.6 makes a number of an array of one element, which NumPy 2.4 no longer does."""
    from deeplab_fast.ops.triton import _unfit

    said = "the interpreter of Triton 3.6.0 needs NumPy older than 2.4; {} is installed"
    assert [_unfit("3.6.0", numpy) for numpy in ("2.4.0", "2.5.1")] == [said.format("2.4.0"), said.format("2.5.1")]
    fits = [("3.6.0", "2.3.6"), ("3.7.1", "2.5.5"), (None, "2.5.5"), ("3.6.0", None)]
    assert [_unfit(triton, numpy) for triton, numpy in fits] == [None] * 4
