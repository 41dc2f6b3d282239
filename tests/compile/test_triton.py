"""Every Triton kernel compiles for every architecture, spills nothing, fits the chip, and is what the golden file says.

That takes two minutes for each pair of architecture and type: a few pairs are tried, the others with ``-m slow``. The
golden file shows in a review what a change does to the machine code. After an intended change:
``python tests/compile/test_triton.py`` writes it anew.
"""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deeplab_fast.ops.triton import _INSTALLED

Case = tuple[int, str]  # architecture and type
Kernels = dict[str, dict[str, int]]

HERE = Path(__file__).parent
GOLDEN = HERE / "golden.json"
MOST_SHARED = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10}  # bytes a block may have, CUDA C++ guide, table 27
CASES = [*((arch, dtype) for arch in MOST_SHARED for dtype in ("bf16", "fp16")), (90, "fp32")]
USUAL = {(90, "bf16"), (80, "fp16"), (90, "fp32")}

pytestmark = pytest.mark.skipif(not _INSTALLED, reason="Triton is not installed")


def compiled(arch: int, dtype: str) -> dict[str, dict[str, int]]:
    """Resources of every kernel, from a process in which Triton compiles instead of interpreting."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, str(HERE / "resources.py"), str(arch), dtype]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def name_of(case: Case) -> str:
    return f"sm_{case[0]} {case[1]}"


# One test, not one for each question: what was compiled would otherwise be compiled again by each of its processes.
@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name_of(case), marks=() if case in USUAL else pytest.mark.slow) for case in CASES]
)
def test_every_kernel(case):
    kernels = compiled(*case)
    check_resources(case, kernels)
    check_tiles(case, kernels)
    if case[0] == 90 and case[1] != "fp32":
        check_tensor_cores(kernels)
    check_against_golden(case, kernels)


def check_resources(case: Case, kernels: Kernels) -> None:
    """Nothing spills, everything fits."""
    for name, used in kernels.items():
        print(f"  {name:<64} {used}")
        assert used["stack"] == 0, f"{name} has {used['stack']} bytes of stack"
        assert used["shared"] <= MOST_SHARED[case[0]], f"{name} has {used['shared']} shared bytes"
        assert used["registers"] <= 255


def check_tiles(case: Case, kernels: Kernels) -> None:
    """Every tile of the tables is compiled."""
    from deeplab_fast.ops.triton import tiles

    arch, dtype = case
    tables = {k: v for k, v in vars(tiles).items() if k.isupper() and isinstance(v, tuple)}
    used = [v for k, v in tables.items() if k.endswith("_FP32") == (dtype == "fp32")]
    expected = {f"{t.rows}x{t.columns} w{t.warps}" for table in used for _, t in table}
    if arch != 90:
        expected -= {"128x256 w8", "128x128 w4"}  # Hopper's alone
    assert expected <= {" ".join(name.split()[1:3]) for name in kernels}


def check_tensor_cores(kernels: Kernels) -> None:
    """Hopper's wgmma, both its operands brought by the tensor memory accelerator."""
    products = {name: used for name, used in kernels.items() if name.startswith("conv")}
    assert len(products) > 15
    for name, used in products.items():
        assert used["UTMALDG"] > 0, name
        assert used["HGMMA"] > 0, name
        assert used["HGMMA_R"] == 0, name


def check_against_golden(case: Case, kernels: Kernels) -> None:
    """The machine code is what was reviewed."""
    import triton

    golden = json.loads(GOLDEN.read_text())
    if triton.__version__ != golden["triton"]:
        pytest.skip(f"the golden file is of Triton {golden['triton']}, this is {triton.__version__}")
    reviewed = golden["kernels"].get(name_of(case), {})
    changed = [
        f"{name}: {reviewed.get(name)} -> {kernels.get(name)}"
        for name in sorted(kernels.keys() | reviewed.keys())
        if kernels.get(name) != reviewed.get(name)
    ]
    assert not changed, "\n".join(["python tests/compile/test_triton.py writes it anew", *changed])


if __name__ == "__main__":
    import triton

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(map(name_of, CASES), pool.map(lambda case: compiled(*case), CASES), strict=True))
    content = {"triton": triton.__version__, "kernels": found}
    # One line a kernel: that is what a review reads.
    text = re.sub(r"\{[^{}]*\}", lambda used: " ".join(used[0].split()), json.dumps(content, indent=1))
    GOLDEN.write_text(text + "\n")
