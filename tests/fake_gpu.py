"""A step as on a GPU, where there is none: FakeTensors, an H200's properties, convolutions where they go there."""

import contextlib
import sys
from collections.abc import Iterator
from unittest import mock

import torch
from torch import Tensor, nn

from deeplab_fast.ops import dispatch
from deeplab_fast.ops.conv import atrous_conv, gemm, gemm_check
from deeplab_fast.ops.triton import device_info
from deeplab_fast.ops.upsampling import upsample_ce
from deeplab_fast.training import state

# A torch built without CUDA cannot differentiate FakeTensors of a CUDA device, nor one with it that finds none:
# there, CPU ones take their place.
DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def fake_twin(model: nn.Module, device: torch.device) -> nn.Module:
    """``model`` with FakeTensors on ``device``: what ``to_channels_last`` does, which FakeTensor cannot."""
    for module in model.modules():
        for kind in (module._parameters, module._buffers):
            for name, value in kind.items():
                if value is not None:
                    layout = torch.channels_last if value.dim() == 4 else torch.contiguous_format
                    fake = torch.empty(value.shape, dtype=value.dtype, device=device, memory_format=layout)
                    kind[name] = nn.Parameter(fake) if kind is module._parameters else fake
    return model


def empty_product(a: Tensor, weight: Tensor, window: gemm.Window | None = None) -> tuple[Tensor, Tensor]:
    """Return what ``gemm.product`` does, empty: its reference goes through thousands of parts one by one."""
    rows, outputs = a.shape[0], weight.shape[0]
    return a.new_empty(rows, outputs), a.new_empty(gemm.parts_of(rows), 3, outputs, dtype=torch.float32)


def empty_norm_gradient(dy: Tensor, weight: Tensor, norm: gemm.NormInput, *rest: object) -> tuple[Tensor, Tensor]:
    """Return what ``gemm.norm_gradient`` does, empty."""
    rows, inputs = norm.x.shape
    return torch.empty_like(norm.x), dy.new_empty(gemm.parts_of(rows), 2, inputs, dtype=torch.float32)


@contextlib.contextmanager
def fake_gpu() -> Iterator[None]:
    """What the package asks about the device is answered as an H200 would; launches are left to the caller."""
    with contextlib.ExitStack() as stack:
        for where, name, value in (
            (dispatch, "missing", lambda device: None),
            (device_info, "architecture", lambda device: 90),
            (device_info, "has_tma", lambda device: True),
            (device_info, "multiprocessors", lambda device: 132),
            (gemm, "missing", lambda device: None),
            (gemm_check, "disagreement", lambda device, kind: None),
            (gemm, "_is_native", lambda t: False),
            (gemm, "product_reference", empty_product),
            (gemm, "norm_gradient_reference", empty_norm_gradient),
            (upsample_ce, "has_native", lambda logits: False),
            (atrous_conv, "prefers_taps", lambda x, rate, dtype: False),
            (state, "to_channels_last", fake_twin),
        ):
            stack.enter_context(mock.patch.object(where, name, value))
        for name, module in list(sys.modules.items()):  # as eager mode does, so that the launchers run too
            if name.startswith("deeplab_fast.ops.") and hasattr(module, "is_eager"):
                stack.enter_context(mock.patch.object(module, "is_eager", return_value=True))
        yield
