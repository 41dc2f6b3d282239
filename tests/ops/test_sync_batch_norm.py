import pytest
import torch
import torch.distributed as dist
from torch.nn import functional as F

from deeplab_fast.ops import sync_batch_norm
from deeplab_fast.ops.norm.sync_batch_norm import merge_stats
from tests.ops.kernels import DEVICE, needs_kernels, relative_error
from tests.spawning import in_processes

pytestmark = pytest.mark.gpu

CHANNELS, SPLIT = 5, (3, 1)  # images of the two processes: unequal on purpose


def inputs():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(4, CHANNELS, 6, 7, generator=generator, dtype=torch.float64) * 3 + 100
    grad = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    weight, bias = torch.rand(2, CHANNELS, generator=generator, dtype=torch.float64)
    return x, grad, weight, bias


def expected():
    x, grad, weight, bias = (t.requires_grad_() for t in inputs())
    mean, var = torch.zeros(CHANNELS, dtype=torch.float64), torch.ones(CHANNELS, dtype=torch.float64)
    out = F.batch_norm(x, mean, var, weight, bias, True, 0.1, 1e-5)
    grads = torch.autograd.grad(out, (x, weight, bias), grad)
    return out, *grads, mean, var


def worker(rank, init_file, results):
    dist.init_process_group("gloo", init_method=f"file://{init_file}", rank=rank, world_size=2)
    part = slice(0, SPLIT[0]) if rank == 0 else slice(SPLIT[0], 4)
    x, grad, weight, bias = inputs()
    x = x[part].contiguous(memory_format=torch.channels_last).requires_grad_()
    weight, bias = weight.requires_grad_(), bias.requires_grad_()
    mean, var = torch.zeros(CHANNELS, dtype=torch.float64), torch.ones(CHANNELS, dtype=torch.float64)
    out = sync_batch_norm(x, weight, bias, mean, var, 0.1, 1e-5)
    grads = torch.autograd.grad(out, (x, weight, bias), grad[part])
    torch.save([out.detach(), *grads, mean, var], f"{results}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_equal_one_batch(tmp_path):
    in_processes(worker, str(tmp_path / "init"), str(tmp_path))
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    out, dx, dw, db, mean, var = expected()
    close = {"rtol": 1e-9, "atol": 1e-10}
    torch.testing.assert_close(torch.cat([p[0] for p in parts]), out, **close)
    torch.testing.assert_close(torch.cat([p[1] for p in parts]), dx, **close)
    torch.testing.assert_close(parts[0][2] + parts[1][2], dw, **close)
    torch.testing.assert_close(parts[0][3] + parts[1][3], db, **close)
    for p in parts:
        torch.testing.assert_close(p[4], mean, **close)
        torch.testing.assert_close(p[5], var, **close)


def test_merge_moments_of_unequal_parts():
    x = torch.randn(100, 3, dtype=torch.float64) + 1e4
    parts = x.split([1, 60, 39])
    moments = [torch.stack([torch.full((3,), float(len(p)), dtype=x.dtype), p.mean(0), _m2(p)]) for p in parts]
    count, mean, m2 = merge_stats(torch.stack(moments))
    assert count.tolist() == [100] * 3
    torch.testing.assert_close(mean, x.mean(0))
    torch.testing.assert_close(m2, _m2(x), rtol=1e-6, atol=1e-8)


def _m2(x):
    return ((x - x.mean(0)) ** 2).sum(0)


def fused_worker(rank, init_file, results):
    dist.init_process_group("gloo", init_method=f"file://{init_file}", rank=rank, world_size=2)
    part = slice(0, SPLIT[0]) if rank == 0 else slice(SPLIT[0], 4)
    x, grad, weight, bias = (t.float() for t in inputs())
    leaves = [t.requires_grad_() for t in (x[part], x.flip(0)[part].clone(), weight, bias)]
    mean, var = torch.zeros(CHANNELS), torch.ones(CHANNELS)
    out = sync_batch_norm(*leaves[:1], *leaves[2:], mean, var, 0.1, 1e-5, leaves[1], True, "on")
    torch.save([out.detach(), *torch.autograd.grad(out, leaves, grad[part]), mean, var], f"{results}/{rank}.pt")
    dist.destroy_process_group()


@needs_kernels
@pytest.mark.skipif(DEVICE.type == "cuda", reason="gloo and the interpreter")
def test_fused_with_residual_and_relu_in_two_processes(tmp_path):
    in_processes(fused_worker, str(tmp_path / "init"), str(tmp_path))
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    x, grad, weight, bias = (t.float().double() for t in inputs())
    leaves = [t.requires_grad_() for t in (x, x.flip(0).clone(), weight, bias)]
    mean, var = torch.zeros(CHANNELS, dtype=torch.float64), torch.ones(CHANNELS, dtype=torch.float64)
    out = (F.batch_norm(x, mean, var, weight, bias, True, 0.1, 1e-5) + leaves[1]).relu()
    dx, dresidual, dweight, dbias = torch.autograd.grad(out, leaves, grad)
    together = [torch.cat([p[i] for p in parts]) for i in (0, 1, 2)] + [parts[0][i] + parts[1][i] for i in (3, 4)]
    for found, exact in zip(together, (out, dx, dresidual, dweight, dbias), strict=True):
        assert relative_error(found, exact) <= 1e-5
    for p in parts:
        assert relative_error(p[5], mean) <= 1e-5
        assert relative_error(p[6], var) <= 1e-5
