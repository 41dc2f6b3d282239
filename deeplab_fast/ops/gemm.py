"""Matrix products with BatchNorm's share in their epilogue: what 1x1 convolutions are, of rows of pixels.

By CUTLASS in the extension, on Hopper (``csrc/cuda/gemm``). The references, in torch, are the specification, what a CPU
runs, and what the kernels are compared with when a process first uses them on a GPU: where they disagree it does not.
"""

from functools import cache
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from . import _native

ROWS = 128  # of a part
_ALIGNMENT = 8  # channels
_TYPES = {torch.float16: "float16", torch.bfloat16: "bfloat16"}


class NormInput(NamedTuple):
    """A BatchNorm and its input: ``x`` ``[rows, C]``; mean, biased variance, weight and bias ``[C]``."""

    x: Tensor
    mean: Tensor
    variance: Tensor
    weight: Tensor
    bias: Tensor
    eps: float

    def x_hat(self) -> Tensor:
        """Return the normalised input, fp32 or wider."""
        return (self.x.to(self.mean.dtype) - self.mean) * torch.rsqrt(self.variance + self.eps)


def product(a: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``a weight^T`` and the moments of its parts.

    Args:
        a: ``[rows, in]``, contiguous; fp16 or bf16 on a GPU, see :func:`supports`.
        weight: ``[out, in]`` of that type, contiguous.

    Returns:
        ``[rows, out]`` of that type, and fp32 ``[parts, 3, out]``: count, mean and M2 of what is stored, by 128 rows.
    """
    if not _is_native(a):
        return product_reference(a, weight)
    y = a.new_empty(a.shape[0], weight.shape[0])
    parts = a.new_empty(parts_of(a.shape[0]), 3, weight.shape[0], dtype=torch.float32)
    _module().conv1x1_cuda(
        *(_TYPES[a.dtype], a.data_ptr(), weight.data_ptr(), y.data_ptr(), parts.data_ptr()),
        *(a.shape[0], a.shape[1], weight.shape[0], _stream(a.device)),
    )
    return y, parts


def norm_gradient(
    dy: Tensor, weight: Tensor, norm: NormInput, added: Tensor | None = None, activation: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the gradient before the ReLU of ``z = relu(norm(x) (+ residual))``, of whose product it is ``dy``.

    Args:
        dy: ``[rows, out]``, contiguous.
        weight: ``[out, in]``, of the product, of that type.
        norm: of ``[rows, in]``.
        added, activation: ``[rows, in]``: the gradient of z's other reader, and z itself, where there was a residual;
            without, z's sign is made again from ``norm``. Both or none.

    Returns:
        dz ``[rows, in]``, the residual's gradient too, and fp32 ``[parts, 2, in]``: sums of dz and dz * x-hat.
    """
    if not _is_native(dy):
        return norm_gradient_reference(dy, weight, norm, added, activation)
    rows, channels = norm.x.shape
    dz = torch.empty_like(norm.x)
    parts = dy.new_empty(parts_of(rows), 2, channels, dtype=torch.float32)
    constants = [t.float() for t in norm[1:5]]  # a weight may be of a lower type; kept alive until the launch
    _module().conv1x1_gradient_cuda(
        *(_TYPES[dy.dtype], dy.data_ptr(), weight.data_ptr(), norm.x.data_ptr()),
        *([t.data_ptr() for t in constants], norm.eps),
        *(0 if t is None else t.data_ptr() for t in (added, activation)),
        *(dz.data_ptr(), parts.data_ptr(), rows, channels, dy.shape[1], _stream(dy.device)),
    )
    return dz, parts


def weight_gradient(dy: Tensor, x: Tensor) -> Tensor:
    """Return a product's: ``dy^T x``, fp32 ``[out, in]``, from rows, by the vendor's library, which splits the sum."""
    if x.device.type == "cuda" and x.dtype != torch.float32:
        return torch.mm(dy.t(), x, out_dtype=torch.float32)
    return torch.mm(dy.t().float(), x.float())


def product_reference(a: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Specify :func:`product`."""
    y = _matmul(a, weight.t())
    parts = []
    for part in y.to(_wide(y)).split(ROWS):
        variance, mean = torch.var_mean(part, 0, correction=0)
        parts.append(torch.stack([torch.full_like(mean, len(part)), mean, variance * len(part)]))
    return y, torch.stack(parts).float()


def norm_gradient_reference(
    dy: Tensor, weight: Tensor, norm: NormInput, added: Tensor | None = None, activation: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Specify :func:`norm_gradient`."""
    wide = torch.promote_types(_wide(dy), norm.mean.dtype)
    x_hat = norm.x_hat()
    gradient = _product(dy, weight, wide)
    if added is not None:
        gradient = gradient + added.to(wide)
    z = x_hat * norm.weight + norm.bias if activation is None else activation
    dz = torch.where(z > 0, gradient, 0.0).to(dy.dtype)
    stored = dz.to(wide)
    sums = [torch.stack([g.sum(0), (g * h).sum(0)]) for g, h in zip(stored.split(ROWS), x_hat.split(ROWS), strict=True)]
    return dz, torch.stack(sums).float()


def parts_of(rows: int) -> int:
    """Return how many parts the rows have."""
    return -(-rows // ROWS)


def supports(x: Tensor, channels_out: int) -> str | None:
    """Say why the kernels cannot take ``x`` ``[N, C, H, W]``, whose convolution has so many outputs, or None.

    A CPU runs the references. On a GPU the kernels are compared with them once, at the first question.
    """
    if x.device.type != "cuda":
        return None
    if x.dtype not in _TYPES:
        return f"x is {x.dtype}; expected fp16 or bf16"
    if not x.numel():
        return "x is empty"
    for channels in (x.shape[1], channels_out):
        if channels % _ALIGNMENT:
            return f"{channels} channels; expected a multiple of {_ALIGNMENT}"
    return missing(x.device)


@cache
def missing(device: torch.device) -> str | None:
    """Say why there are no such kernels on this GPU, or None; asked of the driver once."""
    module, reason = _native.gemm()
    if module is None:
        return f"the extension's products for BatchNorm are missing: {reason}"
    with torch.cuda.device(device):
        reason = module.gemm_missing()
    return f"the extension's products for BatchNorm do not run: {reason}" if reason else None


@cache
def disagreement(device: torch.device) -> str | None:
    """Say which kernel disagrees with its reference on this GPU, or None; compared once in a process."""
    return compared(device) if device.type == "cuda" else None


def compared(device: torch.device) -> str | None:
    """Compare each kernel with its reference on small problems; say which disagrees, or None.

    Ragged rows and channels, both types, both widths of tile: a few milliseconds.
    """
    generator = torch.Generator(device).manual_seed(0)
    for dtype in _TYPES:
        for rows, channels_in, channels_out in ((300, 72, 40), (129, 136, 200)):

            def draw(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
                return torch.randn(shape, generator=generator, device=device).to(dtype)

            a, weight = draw(rows, channels_in).relu_(), draw(channels_out, channels_in) / channels_in**0.5
            found, expected = product(a, weight), product_reference(a, weight)
            if reason := _difference(found, expected, dtype):
                return f"a product of {dtype}: {reason}"
            dy, x, added = draw(rows, channels_out), draw(rows, channels_in), draw(rows, channels_in)
            vectors = [draw(channels_in, dtype=torch.float32) for _ in range(4)]
            norm = NormInput(x, vectors[0], vectors[1].abs() + 0.5, vectors[2], vectors[3], 1e-5)
            for others in ((), (added, a)):
                found = norm_gradient(dy, weight, norm, *others)
                expected = norm_gradient_reference(dy, weight, norm, *others)
                if reason := _difference(found, expected, dtype):
                    return f"a gradient of {dtype}{', with a residual' if others else ''}: {reason}"
    return None


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


def _is_native(t: Tensor) -> bool:
    return t.device.type == "cuda"


def _stream(device: torch.device) -> int:
    return int(torch.cuda.current_stream(device).cuda_stream)


def _module() -> ModuleType:
    module, reason = _native.gemm()
    assert module is not None, reason
    return module


def _wide(t: Tensor) -> torch.dtype:
    return torch.float64 if t.dtype == torch.float64 else torch.float32


def _product(a: Tensor, b: Tensor, wide: torch.dtype) -> Tensor:
    return torch.mm(a.to(wide), b.to(wide))


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    return _product(a, b, _wide(a)).to(a.dtype)
