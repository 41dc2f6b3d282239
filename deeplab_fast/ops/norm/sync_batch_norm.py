"""Batch normalisation over the images of all processes, on any device and backend.

torch's own SyncBatchNorm refuses CPU tensors; this one needs only ``all_gather`` and ``all_reduce``, so the
same training can be checked with gloo on a CPU. The two halves of ``norm_relu`` with an exchange of
(count, mean, M2) between them, and of the two sums in backward.
"""

from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from ..dispatch import use_kernels
from ..layout import as_rows, empty_like_rows
from .norm_relu import supports


def merge_stats(parts: Tensor) -> Tensor:
    """Merge partial moments in the order given: ``[P, 3, C]`` -> ``[3, C]``, each (count, mean, M2).

    M2 is the sum of squared deviations (Chan, Golub, LeVeque 1979); no cancellation of large squares.
    """
    count, mean, m2 = parts.unbind(1)
    total = count.sum(0)
    merged = (count / total.clamp(min=1) * mean).sum(0)
    return torch.stack([total, merged, (m2 + count * (mean - merged) ** 2).sum(0)])


class _Halves(Protocol):
    """The local work on either side of an exchange."""

    def moments(self, x: Tensor) -> Tensor:
        """Return ``[3, C]``: count, mean, M2 of this process's rows."""

    def normalise(self, x: Tensor, residual: Tensor | None, constants: "_Constants") -> Tensor: ...

    def sums(self, dy: Tensor, x: Tensor, y: Tensor | None, constants: "_Constants") -> Tensor:
        """Return ``[2, C]``: sums of dz and of dz * x-hat."""

    def backward(
        self, dy: Tensor, x: Tensor, y: Tensor | None, constants: "_Constants", sums: Tensor, count: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return gradients of ``x`` and of the residual."""


# mean, variance, weight, bias, eps, relu
_Constants = tuple[Tensor, Tensor, Tensor, Tensor, float, bool]


def _channels(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)


class _Plain:
    """The passes in torch operations, fp32 or wider."""

    def moments(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(_wide(x), [0, 2, 3], correction=0)
        count = torch.full_like(mean, float(x.numel() // x.shape[1]))
        return torch.stack([count, mean, variance * count])

    def normalise(self, x: Tensor, residual: Tensor | None, constants: _Constants) -> Tensor:
        mean, variance, weight, bias, eps, relu = constants
        scale = weight * torch.rsqrt(variance + eps)
        y = (_wide(x) - _channels(mean)) * _channels(scale) + _channels(bias)
        if residual is not None:
            y = y + residual
        return (y.relu() if relu else y).to(x.dtype)

    def _dz(self, dy: Tensor, x: Tensor, y: Tensor | None, constants: _Constants) -> tuple[Tensor, Tensor]:
        mean, variance, weight, bias, eps, relu = constants
        x_hat = (_wide(x) - _channels(mean)) * _channels(torch.rsqrt(variance + eps))
        dz = _wide(dy)
        if relu:
            z = x_hat * _channels(weight) + _channels(bias) if y is None else y
            dz = torch.where(z <= 0, 0.0, dz)
        return dz, x_hat

    def sums(self, dy: Tensor, x: Tensor, y: Tensor | None, constants: _Constants) -> Tensor:
        dz, x_hat = self._dz(dy, x, y, constants)
        return torch.stack([dz.sum((0, 2, 3)), (dz * x_hat).sum((0, 2, 3))])

    def backward(
        self, dy: Tensor, x: Tensor, y: Tensor | None, constants: _Constants, sums: Tensor, count: Tensor
    ) -> tuple[Tensor, Tensor]:
        _, variance, weight, _, eps, _ = constants
        dz, x_hat = self._dz(dy, x, y, constants)
        mean_dz, mean_product = (sums / count).unbind()
        scale = _channels(weight * torch.rsqrt(variance + eps))
        dx = (dz - _channels(mean_dz) - x_hat * _channels(mean_product)) * scale
        return dx.to(x.dtype), dz.to(x.dtype)


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


class _Fused:
    """The passes in the kernels of ``norm_relu``."""

    def moments(self, x: Tensor) -> Tensor:
        from .triton import batch_norm_stats as kernels

        return kernels.local_moments(as_rows(x))

    def normalise(self, x: Tensor, residual: Tensor | None, constants: _Constants) -> Tensor:
        from .triton import norm_relu as kernels

        y = empty_like_rows(x)
        kernels.norm_relu(as_rows(x), None if residual is None else as_rows(residual, x), *constants, as_rows(y))
        return y

    def sums(self, dy: Tensor, x: Tensor, y: Tensor | None, constants: _Constants) -> Tensor:
        from .triton import norm_relu as kernels

        rows = None if y is None else as_rows(y, x)
        return torch.stack(kernels.norm_relu_sums(as_rows(dy, x), as_rows(x), rows, *constants))

    def backward(
        self, dy: Tensor, x: Tensor, y: Tensor | None, constants: _Constants, sums: Tensor, count: Tensor
    ) -> tuple[Tensor, Tensor]:
        from .triton import norm_relu as kernels

        dx, dz = empty_like_rows(x), empty_like_rows(x)
        rows = None if y is None else as_rows(y, x)
        kernels.norm_relu_backward(
            as_rows(dy, x),
            as_rows(x),
            rows,
            *constants,
            (sums[0], sums[1]),
            count,
            as_rows(dx),
            as_rows(dz) if y is not None else None,
        )
        return dx, dz


class _SyncBatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        residual: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        relu: bool,
        halves: _Halves,
    ) -> tuple[Tensor, Tensor]:
        local = halves.moments(x)
        gathered = [torch.empty_like(local) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, local)
        merged = merge_stats(torch.stack(gathered))
        constants = (merged[1], merged[2] / merged[0], weight, bias, eps, relu)
        y = halves.normalise(x, residual, constants)
        ctx.halves, ctx.eps, ctx.relu, ctx.has_residual = halves, eps, relu, residual is not None
        masked = relu and residual is not None
        ctx.save_for_backward(x, y if masked else None, merged, weight, bias)
        ctx.mark_non_differentiable(merged)
        return y, merged

    @staticmethod
    def backward(ctx: Any, dy: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, y, merged, weight, bias = ctx.saved_tensors
        constants = (merged[1], merged[2] / merged[0], weight, bias, ctx.eps, ctx.relu)
        local = ctx.halves.sums(dy, x, y, constants)
        everywhere = local.clone()
        dist.all_reduce(everywhere)
        dx, dz = ctx.halves.backward(dy, x, y, constants, everywhere, merged[0, :1])
        dresidual = None
        if ctx.has_residual:
            dresidual = dz if ctx.relu else dy
        return dx, dresidual, local[1].to(weight.dtype), local[0].to(bias.dtype), None, None, None


_apply = _SyncBatchNorm.apply


def break_graphs() -> None:
    """Keep torch.compile from tracing the launchers: graphs break here, where processes wait for each other anyway.

    Not when this module is imported: it imports torch._dynamo, which takes a program half of its start.
    """
    global _apply
    _apply = torch.compiler.disable(_SyncBatchNorm.apply)


def sync_batch_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
    residual: Tensor | None = None,
    relu: bool = False,
    fused: str = "auto",
) -> Tensor:
    """Return ``norm_relu`` in training of ``x`` ``[N, C, H, W]`` with statistics over all processes.

    Processes may hold different numbers of images. Updates ``running_mean`` and ``running_var``
    ``[C]`` in place (variance with n/(n-1)). Weight and bias gradients are this process's share,
    for DistributedDataParallel to average like any other.
    """
    if use_kernels("sync_batch_norm", fused, x.device, supports(x)):
        y, merged = _apply(x, residual, weight, bias, eps, relu, _Fused())
    else:
        y, merged = _SyncBatchNorm.apply(x, residual, weight, bias, eps, relu, _Plain())
    with torch.no_grad():
        count, mean, m2 = merged.unbind()
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        running_var.lerp_((m2 / (count - 1).clamp(min=1)).to(running_var.dtype), momentum)
    return y
