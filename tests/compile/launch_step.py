"""Two training steps' launches through Triton's own compiler and launcher for an H200, without a GPU.

``python launch_step.py PRECISION MODEL BATCH CROP`` in a process that has ``driver_stub.c`` for its libcuda and no
``TRITON_INTERPRET`` prints one JSON object: how often each kernel was launched.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from triton.backends.nvidia.driver import CudaLauncher, CudaUtils
from triton.runtime.driver import driver
from triton.tools.tensor_descriptor import TensorDescriptor

if __name__ == "__main__":  # where a test imports it, it is there
    sys.path.insert(0, str(Path(__file__).parents[2]))

from deeplab_fast.config import TrainConfig
from deeplab_fast.data.dataset import Batch
from deeplab_fast.data.schedule import Schedule
from deeplab_fast.distributed import World
from deeplab_fast.model import build_model
from deeplab_fast.ops.triton.launch import Launch
from deeplab_fast.ops.upsampling.triton import upsample_argmax, upsample_ce
from deeplab_fast.training import state as state_module
from deeplab_fast.training.step import update
from tests.fake_gpu import DEVICE, fake_gpu


class Hopper:
    """The driver as Triton asks for it, of a device that is not there."""

    launcher_cls = CudaLauncher

    def __init__(self) -> None:
        self.utils = CudaUtils()

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)


class Address:
    """A tensor without memory: its place in a storage that begins where CUDA's allocator would let it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.dtype, self.shape = tensor, tensor.dtype, tensor.shape

    def data_ptr(self) -> int:
        return 2**40 + self.tensor.storage_offset() * self.tensor.element_size()

    def stride(self) -> tuple[int, ...]:
        return self.tensor.stride()


def addressed(value: Any) -> Any:
    if isinstance(value, Tensor):
        return Address(value)
    if isinstance(value, TensorDescriptor):
        return TensorDescriptor(Address(value.base), value.shape, value.strides, value.block_shape)
    return value


def loss_and_argmax(config: TrainConfig, stride: int, labels: Tensor) -> None:
    """The loss with and without class weights and smoothing, and the classes of evaluation."""
    n, side = labels.shape[:2]
    low = (side - 1) // stride + 1
    with FakeTensorMode(allow_non_fake_inputs=True):
        dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[config.precision]
        logits = torch.empty(n, low, low, config.num_classes, dtype=dtype, device=DEVICE).permute(0, 3, 1, 2)
        weights = torch.empty(config.num_classes, device=DEVICE)
        for given, smoothing in ((None, 0.0), (weights, 0.1)):
            upsample_ce.upsample_ce(logits, labels, given, 255, smoothing, True, torch.empty_like(logits))
    few = torch.empty(2, low, low, config.num_classes, dtype=dtype).permute(0, 3, 1, 2)  # its sizes are the host's
    for views, target in ((1, side), (2, side + 7)):
        extents = torch.full((views, 2, 2), side, dtype=torch.int32)
        out = torch.empty(2 * target * target, dtype=torch.uint8)
        sizes, targets = [side] * 2 * views, [target] * 4
        upsample_argmax.upsample_argmax([few] * views, sizes, extents, targets, True, views == 1, out)


def main() -> None:
    precision, model, batch, crop = sys.argv[1:]
    fixed: dict[str, Any] = {"backbone": "resnet50", "fused": "on"}
    config = TrainConfig(**fixed, model=model, precision=precision, batch_size=int(batch), crop_size=int(crop))
    network = build_model(config)  # of real tensors
    driver.set_active(Hopper())
    launched: Counter[str] = Counter()

    def run(made: Launch) -> None:
        arguments = {name: addressed(value) for name, value in made.arguments.items()}
        made.kernel[made.grid](**arguments, **made.constants, **made.tile.options())
        launched[made.kernel.__name__] += 1

    with fake_gpu(), mock.patch.object(Launch, "run", run):
        with FakeTensorMode(allow_non_fake_inputs=True):
            state = state_module.build_state(config, network, DEVICE, World(), Schedule(100, config.batch_size, 1))
            n, side = config.batch_size, config.crop_size
            labels = torch.empty(n, side, side, dtype=torch.uint8, device=DEVICE)
            images = torch.empty(n, side, side, 3, dtype=torch.uint8, device=DEVICE)
            extents = torch.empty(n, 4, dtype=torch.int32, device=DEVICE)
            for _ in range(2):
                update(state, [Batch(images, labels, extents, [])])
                state.step += 1
        loss_and_argmax(config, 16 if model == "deeplab_v3_s16" else 8, labels)
    print(json.dumps(launched))


if __name__ == "__main__":
    main()
