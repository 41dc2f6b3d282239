"""A whole step's launches, at full size, pass through Triton's compiler and launcher for Hopper.

Arguments bind, what they specialise compiles, descriptors and grids are what the driver takes. No GPU is needed, and
nothing is computed.
"""

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deeplab_fast.ops.triton import _INSTALLED

HERE = Path(__file__).parent
CC = shutil.which("cc") or shutil.which("gcc")

pytestmark = pytest.mark.skipif(not _INSTALLED or not CC, reason="needs Triton and a C compiler")


@pytest.fixture(scope="module")
def libcuda(tmp_path_factory):
    """The folder of a libcuda.so.1 that launches nothing."""
    import triton

    folder = tmp_path_factory.mktemp("libcuda")
    include = Path(triton.__file__).parent / "backends/nvidia/include"
    command = [CC, "-shared", "-fPIC", f"-I{include}", str(HERE / "driver_stub.c"), "-o", str(folder / "libcuda.so.1")]
    subprocess.run(command, check=True)
    return folder


@pytest.mark.skipif(torch.version.cuda is not None, reason="a torch with CUDA has a libcuda of its own in mind")
@pytest.mark.parametrize(("precision", "model", "batch", "crop"), [("bf16", "deeplab_v3_s16", 32, 513)])
def test_a_step_launches(precision, model, batch, crop, libcuda):
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"TRITON_LIBCUDA_PATH": str(libcuda), "LD_LIBRARY_PATH": str(libcuda)}
    command = [sys.executable, str(HERE / "launch_step.py"), precision, model, str(batch), str(crop)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    launched = json.loads(done.stdout)
    print(launched)
    assert launched["norm_relu_pool_kernel"] == 2  # two steps
    assert launched["conv_kernel"] > 2 * 2 * 13  # ResNet-50's 3x3 of stride 1, forward and backward, of two steps
    assert {"conv_weight_kernel", "add_parts_kernel", "gather_kernel"} < launched.keys()
    assert {"upsample_ce_kernel", "upsample_argmax_kernel", "merge_moments_kernel"} < launched.keys()


def test_the_stand_in_refuses_what_the_driver_does(libcuda):
    encode = ctypes.CDLL(str(libcuda / "libcuda.so.1")).cuTensorMapEncodeTiled
    bf16, no_interleave, swizzle_128, no_promotion, zeros = 9, 0, 3, 0, 0

    def refused(address=1 << 40, stride=64, box=64):
        sizes, strides = (ctypes.c_uint64 * 2)(32, 8), (ctypes.c_uint64 * 1)(stride)
        boxes, steps = (ctypes.c_uint32 * 2)(box, 8), (ctypes.c_uint32 * 2)(1, 1)
        map_ = ctypes.create_string_buffer(128)
        rest = (sizes, strides, boxes, steps, no_interleave, swizzle_128, no_promotion, zeros)
        return encode(map_, bf16, 2, ctypes.c_void_p(address), *rest) != 0

    assert not refused()
    assert refused(address=(1 << 40) + 8)
    assert refused(stride=42)
    assert refused(box=128)  # wider than the swizzle
    assert refused(box=0)
