"""The interpreter as the tests use it: quicker, with the same results."""

import pytest
import torch

from deeplab_fast.ops import norm_relu_pool, upsample_ce
from deeplab_fast.ops.conv.parallel_convs import parallel_convs
from tests.ops.interpreter import REPLACED, PatchOnce
from tests.ops.kernels import DEVICE, DTYPES, needs_kernels

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


def results(dtype):
    """Outputs and gradients of three ops: sums over tiles, products through descriptors, integers and masks."""
    generator = torch.Generator().manual_seed(0)

    def leaf(*shape, dtype=dtype):
        return torch.randn(shape, generator=generator).to(dtype).requires_grad_()

    x, weights, few = leaf(1, 8, 5, 6), [leaf(8, 8, 3, 3, dtype=torch.float32) for _ in range(2)], leaf(1, 5, 3, 4)
    vectors = [leaf(8, dtype=torch.float32) for _ in range(2)]
    labels = torch.randint(0, 6, (1, 9, 11), generator=generator).to(torch.uint8)
    pooled = norm_relu_pool(x, *vectors, torch.zeros(8), torch.ones(8), fused="on")
    y, parts = parallel_convs(x, weights, (1, 3))
    loss = upsample_ce(few, labels, torch.linspace(0.5, 2, 5), label_smoothing=0.1, fused="on").total
    (pooled.sum() + (y.float() ** 2).sum() + loss).backward()
    return [pooled, y, parts, loss, *(t.grad for t in (x, *weights, few, *vectors))]


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_bits_as_triton_s_own(monkeypatch, dtype):
    assert {name for _, name, _ in REPLACED} >= {
        "_patch_lang",
        "_patch_attr",
        "binary_op_type_checking_impl",
        "options",
    }
    quick = results(dtype)
    for obj, name, before in REPLACED:
        monkeypatch.setattr(obj, name, before)
    for found, expected in zip(quick, results(dtype), strict=True):
        assert torch.equal(found, expected)


def test_where_it_cannot_run_the_reason_names_both_versions():
    """Triton 3.6 makes a number of an array of one element, which NumPy 2.4 no longer does."""
    from deeplab_fast.ops.triton import _unfit

    said = "the interpreter of Triton 3.6.0 needs NumPy older than 2.4; {} is installed"
    assert [_unfit("3.6.0", numpy) for numpy in ("2.4.0", "2.5.1")] == [said.format("2.4.0"), said.format("2.5.1")]
    fits = [("3.6.0", "2.3.6"), ("3.7.1", "2.5.5"), (None, "2.5.5"), ("3.6.0", None)]
    assert [_unfit(triton, numpy) for triton, numpy in fits] == [None] * 4
