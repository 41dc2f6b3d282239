"""Choice of who computes a convolution and the BatchNorm after it: our kernels, or the vendor's library and a pass.

:func:`plan` decides, by what was measured (``measurements.py``), by what the kernels take and by whether they agree
with torch here (``gemm_check.py``). A reason against kernels that the user may want to know is logged once.
"""

from enum import Enum

from torch import Tensor, nn

from ..dispatch import log_once, use_kernels
from ..layout import is_pixel_major
from . import gemm, gemm_check, parallel_convs
from .measurements import ATROUS, CONV1X1, CONV3X3, reason_for_library


class Route(Enum):
    """The kernels or the library that compute."""

    LIBRARY = "cuDNN or oneDNN, then a pass for the statistics"
    PRODUCT_1X1 = "CUTLASS, the statistics in its epilogue"
    PRODUCT_3X3 = "CUTLASS's implicit product, the statistics in its epilogue"
    ATROUS = "Triton, which leaves out taps that read padding"


def plan(conv: nn.Conv2d, x: Tensor, fused: str, defers: bool, pixel_major: bool | None = None) -> Route:
    """Return who computes ``conv`` of ``x`` ``[N, C, H, W]`` and the statistics of its output.

    Args:
        fused: ``auto``, ``on`` or ``off``, see :func:`~deeplab_fast.ops.use_kernels`.
        defers: ``x`` is still to be normalised, without a residual, and ``conv`` alone reads it.
        pixel_major: ``x`` will be stored so; default: as it is stored now.
    """
    kind = kind_of(conv)
    if kind is None or fused == "off":
        return Route.LIBRARY
    if kind == CONV1X1:
        return Route.PRODUCT_1X1 if runs_product_1x1(conv, x, fused) else Route.LIBRARY
    # To store a map otherwise and back takes two copies, which cost more than the kernels gain.
    as_read = pixel_major or x.shape[0] == 1 or is_pixel_major(x)
    if runs_atrous(conv, x, fused) and (as_read or fused == "on"):
        return Route.ATROUS
    return Route.PRODUCT_3X3 if defers and runs_product_3x3(conv, x, fused) else Route.LIBRARY


def kind_of(conv: nn.Conv2d) -> str | None:
    """Return the name under which convolutions like ``conv`` are measured; None: no kernel of ours takes it here.

    The stem, 7x7 with stride 2, is not decided here: ``model/convolve.py`` asks ``stem_conv.supports``.
    """
    if conv.bias is not None or conv.groups != 1:
        return None
    if conv.kernel_size == (1, 1) and conv.padding == (0, 0) and conv.stride[0] == conv.stride[1]:
        return CONV1X1
    is_same = conv.padding == conv.dilation and conv.dilation[0] == conv.dilation[1] and conv.stride == (1, 1)
    return ATROUS if conv.kernel_size == (3, 3) and is_same else None


def runs_product_1x1(conv: nn.Conv2d, x: Tensor, fused: str) -> bool:
    """Tell whether the 1x1 convolution of ``x`` ``[N, C, H, W]`` runs as a matrix product of ours."""
    if reason := gemm.supports(x, conv.out_channels):  # the library and a pass serve as well, with --fused=on too
        log_once(CONV1X1, reason)
        return False
    reason = None
    if fused == "auto":
        reason = reason_for_library(CONV1X1, x[:, :, :: conv.stride[0], :: conv.stride[1]], conv.out_channels, [0])
    if reason is None:  # the last question: it takes a process of its own
        reason = gemm_check.disagreement(x.device, "1x1")
    return use_kernels(CONV1X1, fused, x.device, reason)


def runs_atrous(conv: nn.Conv2d, x: Tensor, fused: str) -> bool:
    """Tell whether Triton's kernels do the 3x3 convolution of ``x`` ``[N, C, H, W]``, pixel-major."""
    reason = parallel_convs.supports(x, [conv.weight])
    if reason is None and fused == "auto":
        reason = reason_for_library(ATROUS, x, conv.out_channels, [conv.dilation[0]])
    return use_kernels(ATROUS, fused, x.device, reason)


def runs_product_3x3(conv: nn.Conv2d, x: Tensor, fused: str) -> bool:
    """Tell whether a 3x3 convolution of ``x`` ``[N, C, H, W]`` runs as a product of ours: where measured ahead.

    Kernels that would be ahead but do not agree with torch are named in the log, once.
    """
    if fused != "auto" or x.device.type != "cuda":
        return False
    rate, k = conv.dilation[0], conv.out_channels
    if reason_for_library(CONV3X3, x, k, [rate]) or gemm.supports(x, k, rate):
        return False
    if reason := gemm_check.disagreement(x.device, "3x3"):
        log_once(CONV3X3, reason)
    return reason is None
