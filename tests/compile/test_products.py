"""The products for BatchNorm, as the build made them: registers, no spills, Hopper's tensor cores, no other memory."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deeplab_fast.ops import _native

KEPT = Path(__file__).parents[2] / "build" / "cuda"
TRITON = importlib.util.find_spec("triton")
CUOBJDUMP = shutil.which("cuobjdump") or str(
    Path(TRITON.origin if TRITON and TRITON.origin else "/").parent / "backends/nvidia/bin/cuobjdump"
)
NAMES = [f"{op}_{dtype}" for op in ("forward", "backward", "residual") for dtype in ("bf16", "fp16")]
LOADS = {"forward": 2, "backward": 3, "residual": 5}  # maps that a kernel reads by the tensor memory accelerator

pytestmark = [
    pytest.mark.skipif(_native.gemm()[0] is None, reason=f"no products for BatchNorm: {_native.gemm()[1]}"),
    pytest.mark.skipif(not Path(CUOBJDUMP).exists(), reason="cuobjdump is not there"),
]


def kernels(name):
    """(registers, stack, code) of each kernel of the newest object."""
    objects = sorted(KEPT.glob(f"{name}-*.o"), key=lambda path: path.stat().st_mtime)
    if not objects:
        pytest.skip(f"{KEPT} holds no {name}: the extension was built elsewhere")
    command = [CUOBJDUMP, "--dump-resource-usage", "--dump-sass", str(objects[-1])]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    usage = re.findall(r"Function \S+:\s+REG:(\d+) STACK:(\d+)", text)
    codes = text.split("Function : ")[1:]
    assert len(usage) == len(codes) == 2  # of 64 and of 128 columns
    return [(int(registers), int(stack), code) for (registers, stack), code in zip(usage, codes, strict=True)]


@pytest.mark.parametrize("name", NAMES)
def test_resources(name):
    for registers, stack, code in kernels(name):
        assert stack == 0
        assert registers <= 168  # three warp groups: 65,536 registers a multiprocessor, which the consumers share anew
        assert len(re.findall(r"\bHGMMA\b", code)) > 0
        assert len(re.findall(r"\bUTMALDG\b", code)) >= LOADS[name.split("_")[0]]
        assert len(re.findall(r"\bUTMASTG\b", code)) > 0
        assert not re.findall(r"\b(?:ATOM|RED)[A-Z.]*\.(?:ADD|F32)\S*", code)  # sums without atomics
        assert not re.findall(r"\b(?:LDL|STL)\b", code)
