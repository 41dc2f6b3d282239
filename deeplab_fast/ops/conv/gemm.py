"""Matrix products with BatchNorm's share in their epilogue: what 1x1 and 3x3 convolutions are, of rows of pixels.

By CUTLASS in the extension, on Hopper (``csrc/cuda/gemm``). The references, in torch, are the specification, what a CPU
runs, and what the kernels are compared with before they are first used on a GPU (``gemm_check.py``).
"""

import contextlib
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import extension
from ..dispatch import constant
from ..layout import CHANNELS_LAST, as_rows, from_rows, is_pixel_major

ROWS = 128  # of a part
TYPES = {torch.float16: "float16", torch.bfloat16: "bfloat16"}
_ALIGNMENT = 8  # channels
_FARTHEST = 15  # pixels between taps


class Window(NamedTuple):
    """Says where the rows lie that a 3x3 convolution of stride 1 reads: ``[N, H, W]``, or pixel-major ``[H, W, N]``."""

    images: int
    height: int
    width: int
    rate: int
    is_pixel_major: bool

    @classmethod
    def of(cls, x: Tensor, rate: int) -> "Window | None":
        """Return that of a map ``[N, C, H, W]``; None for a 1x1 convolution, whose rate is 0."""
        n, _, h, w = x.shape
        return cls(n, h, w, rate, is_pixel_major(x)) if rate else None

    def map(self, rows: Tensor) -> Tensor:
        """Return rows ``[rows, C]`` as ``[N, C, H, W]``, a view."""
        return from_rows(rows, self.images, self.height, self.width, self.is_pixel_major)


class NormInput(NamedTuple):
    """A BatchNorm and its input: ``x`` ``[rows, C]``; mean, biased variance, weight and bias ``[C]``."""

    x: Tensor
    mean: Tensor
    variance: Tensor
    weight: Tensor
    bias: Tensor
    eps: float

    def x_hat(self) -> Tensor:
        """Return the normalised input ``[rows, C]``, fp32 or wider."""
        return (self.x.to(self.mean.dtype) - self.mean) * torch.rsqrt(self.variance + self.eps)


def product(a: Tensor, weight: Tensor, window: Window | None = None) -> tuple[Tensor, Tensor]:
    """Return ``a weight^T``, or the 3x3 convolution of the map that ``window`` says, and the moments of its parts.

    Args:
        a: ``[rows, in]``, contiguous; fp16 or bf16 on a GPU, see :func:`supports`.
        weight: ``[out, in]``, or ``[out, 3, 3, in]``, of that type, contiguous.
        window: of a 3x3 convolution.

    Returns:
        ``[rows, out]`` of that type, and fp32 ``[parts, 3, out]``: count, mean and M2 of what is stored, by 128 rows.
    """
    if not _is_native(a):
        return product_reference(a, weight, window)
    (rows, c), k = a.shape, weight.shape[0]
    y = a.new_empty(rows, k)
    parts = a.new_empty(parts_of(rows), 3, k, dtype=torch.float32)
    given = TYPES[a.dtype], a.data_ptr(), weight.data_ptr(), y.data_ptr(), parts.data_ptr()
    with _current(a.device):
        if window is None:
            _module().conv1x1_cuda(*given, rows, c, k, _stream(a.device))
        else:
            _module().conv3x3_cuda(*given, window[:4], window.is_pixel_major, c, k, _stream(a.device))
    return y, parts


def norm_gradient(
    dy: Tensor,
    weight: Tensor,
    norm: NormInput,
    added: Tensor | None = None,
    activation: Tensor | None = None,
    window: Window | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the gradient before the ReLU of ``z = relu(norm(x) (+ residual))``, of whose product it is ``dy``.

    Args:
        dy: ``[rows, out]``, contiguous.
        weight: as of the product, of that type.
        norm: of ``[rows, in]``.
        added, activation: ``[rows, in]``: the gradient of z's other reader, and z itself, where there was a residual;
            without, z's sign is made again from ``norm``. Both or none; none of a 3x3 convolution.
        window: of a 3x3 convolution.

    Returns:
        dz ``[rows, in]``, the residual's gradient too, and fp32 ``[parts, 2, in]``: sums of dz and dz * x-hat.
    """
    if not _is_native(dy):
        return norm_gradient_reference(dy, weight, norm, added, activation, window)
    (rows, c), k = norm.x.shape, dy.shape[1]
    dz = torch.empty_like(norm.x)
    parts = dy.new_empty(parts_of(rows), 2, c, dtype=torch.float32)
    constants = [t.float() for t in norm[1:5]]  # a weight may be of a lower type; kept alive until the launch
    given = (
        TYPES[dy.dtype],
        dy.data_ptr(),
        weight.data_ptr(),
        norm.x.data_ptr(),
        [t.data_ptr() for t in constants],
        norm.eps,
    )
    out, stream = (dz.data_ptr(), parts.data_ptr()), _stream(dy.device)
    with _current(dy.device):
        if window is None:
            others = (0 if t is None else t.data_ptr() for t in (added, activation))
            _module().conv1x1_gradient_cuda(*given, *others, *out, rows, c, k, stream)
        else:
            assert added is None
            assert activation is None
            _module().conv3x3_gradient_cuda(*given, *out, window[:4], window.is_pixel_major, c, k, stream)
    return dz, parts


def weight_gradient(dy: Tensor, x: Tensor, window: Window | None = None) -> Tensor:
    """Return a product's, ``dy^T x``, fp32 ``[out, in]``; of a 3x3 convolution ``[out, 3, 3, in]``, of its type.

    From rows, by the vendor's library, which splits the sum.
    """
    if window is not None:
        return _map_gradient(dy, x, window).permute(CHANNELS_LAST).contiguous()
    if x.device.type == "cuda" and x.dtype != torch.float32:
        return torch.mm(dy.t(), x, out_dtype=torch.float32)
    return torch.mm(dy.t().float(), x.float())


def _map_gradient(dy: Tensor, x: Tensor, window: Window) -> Tensor:
    """Return ``[out, in, 3, 3]``; the library takes lower types as they are on a GPU alone."""
    if x.device.type != "cuda":
        dy, x = dy.to(_wide(dy)), x.to(_wide(x))
    shape, place = (dy.shape[1], x.shape[1], 3, 3), [window.rate] * 2
    like = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    given = window.map(dy), window.map(x), like, None, [1, 1], place, place, False, [0, 0], 1
    return torch.ops.aten.convolution_backward(*given, [False, True, False])[1]


def product_reference(a: Tensor, weight: Tensor, window: Window | None = None) -> tuple[Tensor, Tensor]:
    """Specify :func:`product` of ``[rows, in]``."""
    wide = _wide(a)
    if window is None:
        y = _product(a, weight.t(), wide).to(a.dtype)
    else:
        weight = weight.to(wide).permute(0, 3, 1, 2)
        y = _convolution(a.to(wide), weight, window).to(a.dtype)
    parts = []
    for part in y.to(_wide(y)).split(ROWS):
        variance, mean = torch.var_mean(part, 0, correction=0)
        parts.append(torch.stack([torch.full_like(mean, len(part)), mean, variance * len(part)]))
    return y, torch.stack(parts).float()


def norm_gradient_reference(
    dy: Tensor,
    weight: Tensor,
    norm: NormInput,
    added: Tensor | None = None,
    activation: Tensor | None = None,
    window: Window | None = None,
) -> tuple[Tensor, Tensor]:
    """Specify :func:`norm_gradient` of ``[rows, out]``."""
    wide = torch.promote_types(_wide(dy), norm.mean.dtype)
    x_hat = norm.x_hat()
    if window is None:
        gradient = _product(dy, weight, wide)
    else:  # of such a convolution it is one of the flipped taps
        gradient = _convolution(dy.to(wide), weight.to(wide).permute(3, 0, 1, 2).flip(2, 3), window)
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


def supports(x: Tensor, channels_out: int, rate: int = 0) -> str | None:
    """Say why the kernels cannot take ``x`` ``[N, C, H, W]``, whose convolution has so many outputs, or None.

    ``rate``: of a 3x3 convolution, or 0. A CPU runs the references.
    """
    if x.device.type != "cuda":
        return None
    if rate and (x.dtype != torch.bfloat16 or rate > _FARTHEST):
        return f"x is {x.dtype} and the rate {rate}; expected bf16 and at most {_FARTHEST}"
    if x.dtype not in TYPES:
        return f"x is {x.dtype}; expected fp16 or bf16"
    if not x.numel():
        return "x is empty"
    for channels in (x.shape[1], channels_out):
        if channels % _ALIGNMENT:
            return f"{channels} channels; expected a multiple of {_ALIGNMENT}"
    return missing(x.device)


@constant
@cache
def missing(device: torch.device) -> str | None:
    """Say why there are no such kernels on this GPU, or None; asked of the driver once."""
    module, reason = extension.gemm()
    if module is None:
        return f"the extension's products for BatchNorm are missing: {reason}"
    with torch.cuda.device(device):
        reason = module.gemm_missing()
    return f"the extension's products for BatchNorm do not run: {reason}" if reason else None


def _is_native(t: Tensor) -> bool:
    return t.device.type == "cuda"


def _current(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Make it the current GPU, on which the extension launches."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def _stream(device: torch.device) -> int:
    return int(torch.cuda.current_stream(device).cuda_stream)


def _module() -> ModuleType:
    module, reason = extension.gemm()
    assert module is not None, reason
    return module


def _wide(t: Tensor) -> torch.dtype:
    return torch.float64 if t.dtype == torch.float64 else torch.float32


def _product(a: Tensor, b: Tensor, wide: torch.dtype) -> Tensor:
    return torch.mm(a.to(wide), b.to(wide))


def _convolution(rows: Tensor, weight: Tensor, window: Window) -> Tensor:
    """Convolve with ``weight`` ``[out, in, 3, 3]``; both of one type that the library sums in."""
    y = F.conv2d(window.map(rows), weight, padding=window.rate, dilation=window.rate)
    return as_rows(y, window.map(rows))
