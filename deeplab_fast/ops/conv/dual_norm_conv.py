"""A 1x1 convolution of a residual block's output whose shortcut has a convolution: of two normalisations, added.

By kernels only, and where autograd runs eagerly; ``norm_relu_conv`` calls it, whose specification is its own.
"""

import torch
from torch import Tensor

from ..layout import as_rows, empty_like_rows
from ..norm.deferred import DeferredNorm
from . import gemm
from .conv_moments import convolve_rows, filter_gradient, matrix


def dual_norm_conv(
    first: DeferredNorm, second: DeferredNorm, conv_weight: Tensor, moments: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``z = relu(norm(first) + norm(second))`` ``[N, C, H, W]``, its convolution, and that one's moments.

    ``conv_weight`` ``[K, C, 1, 1]``; moments fp32 ``[parts, 3, K]``, or nothing in it. Differentiable in both raw
    outputs, the weights and the biases.
    """
    (*constants, eps), (*constants2, _) = first.constants, second.constants
    return _DualNormConv.apply(
        first.y, *constants, first.batch, second.y, *constants2, second.batch, eps, conv_weight, moments
    )


class _DualNormConv(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        x, mean, variance, weight, bias, batch, x2, mean2, variance2, weight2, bias2, batch2, eps, conv_weight, moments
    ):
        from ..norm.triton import norm_relu as kernels

        z = empty_like_rows(x)
        constants, second = (mean, variance, weight, bias, eps), (mean2, variance2, weight2, bias2)
        kernels.norm_relu(as_rows(x), as_rows(x2, x), *constants, True, as_rows(z), second)
        return z, *convolve_rows(z, conv_weight, moments)

    @staticmethod
    def setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
        *tensors, ctx.eps, conv_weight, _ = inputs
        ctx.batches = tensors.pop(5), tensors.pop(10)
        ctx.mark_non_differentiable(output[2])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, conv_weight, output[0])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dz, dy, _):  # type: ignore[no-untyped-def]
        from ..norm.triton import norm_relu as kernels

        x, mean, variance, weight, bias, x2, mean2, variance2, weight2, bias2, conv_weight, z = ctx.saved_tensors
        if dy is None:  # only z was used
            dy = x.new_zeros(x.shape[0], conv_weight.shape[0], *x.shape[2:])
        dz = torch.zeros_like(z) if dz is None else dz
        b_x, b_x2, b_z, b_dy = as_rows(x), as_rows(x2, x), as_rows(z, x), as_rows(dy, x)
        first, second = (mean, variance, weight, bias, ctx.eps), (mean2, variance2, weight2, bias2, ctx.eps)
        w = matrix(conv_weight, x.dtype)
        gradient, parts = gemm.norm_gradient(b_dy, w, gemm.NormInput(b_x, *first), as_rows(dz, x), b_z)
        sums, sums2 = kernels.add_parts(parts), kernels.norm_relu_sums(gradient, b_x2, None, *second, False)
        dx, dx2 = empty_like_rows(x), empty_like_rows(x)
        for given, constants, of, batch, out in (
            (b_x, first, sums, ctx.batches[0], dx),
            (b_x2, second, sums2, ctx.batches[1], dx2),
        ):
            count = float(b_x.shape[0]) if batch else None
            kernels.norm_relu_backward(gradient, given, None, *constants, False, of, count, as_rows(out), None)
        dconv = filter_gradient(b_dy, b_z, conv_weight, None)
        own = (dx, None, None, sums[1].to(weight.dtype), sums[0].to(bias.dtype), None)
        other = (dx2, None, None, sums2[1].to(weight2.dtype), sums2[0].to(bias2.dtype), None)
        return *own, *other, None, dconv, None
