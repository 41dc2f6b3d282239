"""The end of a residual block whose shortcut has a convolution: two batch normalisations, their sum and the ReLU.

One pass forward, which stores neither of the two; backward one pass takes the sums of both, and one each makes their
gradients. By kernels only, and where autograd runs eagerly; the specification is ``norm_relu_reference`` of the first,
with that of the second for its residual.
"""

import torch
from torch import Tensor

from ..layout import as_rows, empty_like_rows
from .params import NormConstants


def dual_norm_add_relu(
    x: Tensor, constants: NormConstants, batch: bool, x2: Tensor, constants2: NormConstants, batch2: bool
) -> tuple[Tensor, Tensor]:
    """Return ``relu(norm(x) + norm(x2))``, for two readers: the same memory twice, each with a gradient of its own.

    Args:
        x, x2: ``[N, C, H, W]``, of one type; stored alike, or the second is copied.
        constants, constants2: of each; with one ``eps``.
        batch, batch2: whether the statistics are each one's own, and carry gradient.

    Returns:
        ``[N, C, H, W]`` of that type, stored as ``x``, twice. Differentiable in both inputs and the weights and biases.
    """
    *second, eps = constants2
    return _DualNormAddReLU.apply(x, *constants[:4], batch, x2, *second, batch2, eps)


class _DualNormAddReLU(torch.autograd.Function):
    @staticmethod
    def forward(x, mean, variance, weight, bias, batch, x2, mean2, variance2, weight2, bias2, batch2, eps):  # type: ignore[no-untyped-def]
        from .triton import norm_relu as kernels

        y = empty_like_rows(x)
        constants, second = (mean, variance, weight, bias, eps), (mean2, variance2, weight2, bias2)
        kernels.norm_relu(as_rows(x), as_rows(x2, x), *constants, True, as_rows(y), second)
        return y, y.detach()

    @staticmethod
    def setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
        x, mean, variance, weight, bias, batch, x2, mean2, variance2, weight2, bias2, batch2, ctx.eps = inputs
        ctx.batches = batch, batch2
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, mean, variance, weight, bias, x2, mean2, variance2, weight2, bias2, output[0])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy, more):  # type: ignore[no-untyped-def]
        from .triton import norm_relu as kernels

        if dy is None:
            dy, more = more, None
        if dy is None:
            return (None,) * 13
        x, mean, variance, weight, bias, x2, mean2, variance2, weight2, bias2, y = ctx.saved_tensors
        b_x, b_x2, b_y, b_dy = as_rows(x), as_rows(x2, x), as_rows(y), as_rows(dy, x)
        b_more = None if more is None else as_rows(more, x)
        dz, dx, dx2 = (empty_like_rows(x) for _ in range(3))
        first, second = (mean, variance, weight, bias, ctx.eps), (mean2, variance2, weight2, bias2, ctx.eps)
        sums = kernels.norm_relu_sums(
            b_dy, b_x, b_y, *first, True, b_more, as_rows(dz), second=(b_x2, mean2, variance2)
        )
        (bias_sum, bias2_sum), (weight_sum, weight2_sum) = (s.chunk(2) for s in sums)
        for given, constants, of, batch, out in (
            (b_x, first, (bias_sum, weight_sum), ctx.batches[0], dx),
            (b_x2, second, (bias2_sum, weight2_sum), ctx.batches[1], dx2),
        ):
            count = float(b_x.shape[0]) if batch else None
            kernels.norm_relu_backward(as_rows(dz), given, None, *constants, False, of, count, as_rows(out), None)
        dweight, dbias = weight_sum.to(weight.dtype), bias_sum.to(bias.dtype)
        dweight2, dbias2 = weight2_sum.to(weight2.dtype), bias2_sum.to(bias2.dtype)
        return dx, None, None, dweight, dbias, None, dx2, None, None, dweight2, dbias2, None, None
