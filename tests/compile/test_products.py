"""The products for BatchNorm, as the build made them: registers, no spills, Hopper's tensor cores, no other memory."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deeplab_fast.ops import extension

KEPT = Path(__file__).parents[2] / "build" / "cuda"
TRITON = importlib.util.find_spec("triton")
CUOBJDUMP = shutil.which("cuobjdump") or str(
    Path(TRITON.origin if TRITON and TRITON.origin else "/").parent / "backends/nvidia/bin/cuobjdump"
)
# The kernels of each file: what their epilogue does, and so how many maps and weights they read by the tensor memory
# accelerator.
FILES = {
    "conv1x1_bf16": ["forward", "forward", "backward", "backward", "residual"],
    "conv1x1_fp16": ["forward", "backward", "residual"],
    "conv3x3_bf16": ["forward", "backward"],
}
OPS = ["forward", "backward", "residual"]  # in the order of their declaration
LOADS = {"forward": 2, "backward": 3, "residual": 5}

pytestmark = [
    pytest.mark.skipif(extension.gemm()[0] is None, reason=f"no products for BatchNorm: {extension.gemm()[1]}"),
    pytest.mark.skipif(not Path(CUOBJDUMP).exists(), reason="cuobjdump is not there"),
]


def kernels(name):
    """(what it does, registers, stack, code) of each kernel of the newest object."""
    objects = sorted(KEPT.glob(f"{name}-*.o"), key=lambda path: path.stat().st_mtime)
    if not objects:
        pytest.skip(f"{KEPT} holds no {name}: the extension was built elsewhere")
    command = [CUOBJDUMP, "--dump-resource-usage", "--dump-sass", str(objects[-1])]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    usage = re.findall(r"Function (\S+):\s+REG:(\d+) STACK:(\d+)", text)
    codes = {code.split("\n", 1)[0].strip(): code for code in text.split("Function : ")[1:]}
    assert len(usage) == len(codes) == len(FILES[name])
    for symbol, registers, stack in usage:
        op = re.search(r"BatchNormNodeILNS\w*?2OpE(\d)", symbol)
        assert op is not None
        yield OPS[int(op.group(1))], int(registers), int(stack), codes[symbol]


@pytest.mark.parametrize("name", FILES)
def test_resources(name):
    found = list(kernels(name))
    assert sorted(op for op, *_ in found) == sorted(FILES[name])
    for op, registers, stack, code in found:
        assert stack == 0
        assert registers <= 168  # three warp groups: 65,536 registers a multiprocessor, which the consumers share anew
        assert len(re.findall(r"\bHGMMA\b", code)) > 0
        assert len(re.findall(r"\bUTMALDG\b", code)) >= LOADS[op]
        assert ("UTMALDG.5D.IM2COL" in code) == name.startswith("conv3x3")  # taps come without a copy of the map
        assert len(re.findall(r"\bUTMASTG\b", code)) > 0
        assert not re.findall(r"\b(?:ATOM|RED)[A-Z.]*\.(?:ADD|F32)\S*", code)  # sums without atomics
        assert not re.findall(r"\b(?:LDL|STL)\b", code)
