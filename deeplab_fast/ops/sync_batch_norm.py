"""Batch normalisation over the images of all processes, on any device and backend.

torch's own SyncBatchNorm refuses CPU tensors; this one needs only ``all_gather`` and
``all_reduce``, so the same training can be checked with gloo on a CPU.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def merge_moments(count: Tensor, mean: Tensor, m2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Merge partial moments in the order given.

    ``count`` ``[P]``, ``mean`` and ``m2`` (sum of squared deviations) ``[P, C]`` of ``P`` disjoint
    parts -> count 0-d, mean ``[C]``, m2 ``[C]`` of their union (Chan, Golub, LeVeque 1979); no
    cancellation of large squares.
    """
    total = count.sum()
    share = (count / total.clamp(min=1))[:, None]
    merged = (share * mean).sum(0)
    return total, merged, (m2 + count[:, None] * (mean - merged) ** 2).sum(0)


class _SyncBatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        axes = [0, 2, 3]
        values = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        variance, mean = torch.var_mean(values, axes, correction=0)
        count = torch.full((1,), float(x.numel() // x.shape[1]), dtype=mean.dtype, device=x.device)
        packed = torch.cat([count, mean, variance * count])
        gathered = [torch.empty_like(packed) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, packed)
        parts, c = torch.stack(gathered), x.shape[1]
        total, mean, m2 = merge_moments(parts[:, 0], parts[:, 1 : c + 1], parts[:, c + 1 :])
        inverse = torch.rsqrt(m2 / total + eps)
        ctx.save_for_backward(x, weight, mean, inverse, total)
        scale = (weight * inverse).view(1, -1, 1, 1)
        out = (values - mean.view(1, -1, 1, 1)) * scale + bias.view(1, -1, 1, 1)
        ctx.mark_non_differentiable(total, mean, m2)
        return out.to(x.dtype), total, mean, m2

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, inverse, total = ctx.saved_tensors
        wide = grad.to(mean.dtype)
        x_hat = (x.to(mean.dtype) - mean.view(1, -1, 1, 1)) * inverse.view(1, -1, 1, 1)
        local = torch.cat([wide.sum((0, 2, 3)), (wide * x_hat).sum((0, 2, 3))])
        everywhere = local.clone()
        dist.all_reduce(everywhere)
        c = x.shape[1]
        mean_grad = (everywhere[:c] / total).view(1, -1, 1, 1)
        mean_grad_x_hat = (everywhere[c:] / total).view(1, -1, 1, 1)
        dx = (wide - mean_grad - x_hat * mean_grad_x_hat) * (weight * inverse).view(1, -1, 1, 1)
        return dx.to(x.dtype), local[c:].to(weight.dtype), local[:c].to(weight.dtype), None


def sync_batch_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
) -> Tensor:
    """Training-mode BatchNorm of ``x`` ``[N, C, H, W]`` with statistics over all processes.

    Processes may hold different numbers of images. Updates ``running_mean`` and ``running_var``
    ``[C]`` in place (variance with n/(n-1)). Weight and bias gradients are this process's share,
    for DistributedDataParallel to average like any other.
    """
    out, total, mean, m2 = _SyncBatchNorm.apply(x, weight, bias, eps)
    with torch.no_grad():
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        running_var.lerp_((m2 / (total - 1).clamp(min=1)).to(running_var.dtype), momentum)
    return out
