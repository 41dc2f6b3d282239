"""Every Triton kernel compiles for every architecture, spills nothing, fits the chip, and is what the golden file says.

The golden file shows in a review what a change does to the machine code. After an intended change:
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

HERE = Path(__file__).parent
GOLDEN = HERE / "golden.json"
MOST_SHARED = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10}  # bytes a block may have, CUDA C++ guide, table 27
CASES = [*((arch, dtype) for arch in MOST_SHARED for dtype in ("bf16", "fp16")), (90, "fp32")]

pytestmark = pytest.mark.skipif(not _INSTALLED, reason="Triton is not installed")


def compile_all(arch: int, dtype: str) -> dict[str, dict[str, int]]:
    """Resources of every kernel, from a process in which Triton compiles instead of interpreting."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, str(HERE / "resources.py"), str(arch), dtype]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def compile_everywhere() -> dict[str, dict[str, dict[str, int]]]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda case: compile_all(*case), CASES)
    return {f"sm_{arch} {dtype}": kernels for (arch, dtype), kernels in zip(CASES, found, strict=True)}


@pytest.fixture(scope="module")
def compiled():
    return compile_everywhere()


def test_nothing_spills_and_everything_fits(compiled):
    for (arch, _), (where, kernels) in zip(CASES, compiled.items(), strict=True):
        print(f"\n{where}")
        for name, used in kernels.items():
            print(f"  {name:<64} {used}")
            assert used["stack"] == 0, f"{where}: {name} has {used['stack']} bytes of stack"
            assert used["shared"] <= MOST_SHARED[arch], f"{where}: {name} has {used['shared']} shared bytes"
            assert used["registers"] <= 255


def test_every_tile_of_the_tables_is_compiled(compiled):
    from deeplab_fast.ops.triton import tiles

    tables = {k: v for k, v in vars(tiles).items() if k.isupper() and isinstance(v, tuple)}
    for (arch, dtype), kernels in zip(CASES, compiled.values(), strict=True):
        used = [v for k, v in tables.items() if k.endswith("_FP32") == (dtype == "fp32")]
        expected = {f"{t.rows}x{t.columns} w{t.warps}" for table in used for _, t in table}
        if arch != 90:
            expected -= {"128x256 w8", "128x128 w4"}  # Hopper's alone
        assert expected <= {" ".join(name.split()[1:3]) for name in kernels}


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_matrix_products_use_hopper_s_tensor_cores(compiled, dtype):
    """wgmma, its operands brought by the tensor memory accelerator; from registers only what a prologue made."""
    products = {name: used for name, used in compiled[f"sm_90 {dtype}"].items() if name.startswith("conv")}
    assert len(products) > 15
    for name, used in products.items():
        assert used["UTMALDG"] > 0, name
        assert used["HGMMA"] > 0, name
        assert used["HGMMA_R"] == (used["HGMMA"] if name.startswith("conv1x1_norm ") else 0), name


def test_the_machine_code_is_what_was_reviewed(compiled):
    import triton

    golden = json.loads(GOLDEN.read_text())
    if triton.__version__ != golden["triton"]:
        pytest.skip(f"the golden file is of Triton {golden['triton']}, this is {triton.__version__}")
    changed = [
        f"{where}: {name}: {golden['kernels'].get(where, {}).get(name)} -> {kernels.get(name)}"
        for where, kernels in compiled.items()
        for name in sorted(kernels.keys() | golden["kernels"].get(where, {}).keys())
        if kernels.get(name) != golden["kernels"].get(where, {}).get(name)
    ]
    assert not changed, "\n".join(["python tests/compile/test_triton.py writes it anew", *changed])


if __name__ == "__main__":
    import triton

    content = {"triton": triton.__version__, "kernels": compile_everywhere()}
    # One line a kernel: that is what a review reads.
    text = re.sub(r"\{[^{}]*\}", lambda used: " ".join(used[0].split()), json.dumps(content, indent=1))
    GOLDEN.write_text(text + "\n")
