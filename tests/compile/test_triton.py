"""Every Triton kernel compiles for every architecture, spills nothing, fits the chip, and is what the golden file says.

The golden file shows in a review what a change does to the machine code. After an intended change:
``python tests/compile/test_triton.py`` writes it anew. A kernel whose IR is the golden file's is not compiled again,
but for one launch of each: to compile all takes two minutes for each pair of architecture and type. A few pairs are
tried so; all of them, and all compiled, with ``-m slow``.
"""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from deeplab_fast.ops.triton import _INSTALLED

Case = tuple[int, str]  # architecture and type
Kernels = dict[str, dict[str, Any]]

HERE = Path(__file__).parent
GOLDEN = HERE / "golden.json"
MOST_SHARED = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10}  # bytes a block may have, CUDA C++ guide, table 27
CASES = [*((arch, dtype) for arch in MOST_SHARED for dtype in ("bf16", "fp16")), (90, "fp32")]
USUAL = [(90, "bf16"), (80, "fp16"), (90, "fp32")]

pytestmark = pytest.mark.skipif(not _INSTALLED, reason="Triton is not installed")


def compiled(case: Case, known: Path | None = None) -> Kernels:
    """Resources of every kernel, from a process in which Triton compiles instead of interpreting.

    Those of the file ``known`` are taken from there where the IR has not changed, but for one launch of each kernel.
    """
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, str(HERE / "resources.py"), *map(str, case), *([] if known is None else [str(known)])]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def name_of(case: Case) -> str:
    return f"sm_{case[0]} {case[1]}"


# One test, not one for each question: what was compiled would otherwise be compiled again by each of its processes.
@pytest.mark.parametrize("case", USUAL, ids=name_of)
def test_every_kernel(case):
    check(case, compiled(case, GOLDEN))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_every_kernel_compiled_again(case):
    check(case, compiled(case))


def test_what_changed_is_compiled(monkeypatch):
    """And one launch of each kernel; of the others the figures are taken."""
    from tests.compile import resources

    kernels = {"conv 1": "conv", "conv 2": "conv", "conv 3": "conv", "norm 1": "norm", "norm 2": "norm"}
    made = {name: SimpleNamespace(name=name, kernel=SimpleNamespace(__name__=k)) for name, k in kernels.items()}
    monkeypatch.setattr(resources, "launches", lambda dtype, arch: made)
    monkeypatch.setattr(resources, "ir_digest", lambda one, arch: f"IR of {one.name}")
    monkeypatch.setattr(resources, "resources", lambda one, arch: {"compiled": True})
    known = {name: {"ir": f"IR of {name}", "compiled": False} for name in kernels if name != "norm 2"}
    known["conv 3"]["ir"] = "another"
    found = resources.all_resources(torch.bfloat16, 90, known)
    assert {name for name, one in found.items() if one["compiled"]} == {"conv 1", "conv 3", "norm 1", "norm 2"}
    assert all(found[name]["ir"] == f"IR of {name}" for name in kernels)


def check(case: Case, kernels: Kernels) -> None:
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
        found = dict(zip(map(name_of, CASES), pool.map(compiled, CASES), strict=True))
    content = {"triton": triton.__version__, "kernels": found}
    # One line a kernel: that is what a review reads.
    text = re.sub(r"\{[^{}]*\}", lambda used: " ".join(used[0].split()), json.dumps(content, indent=1))
    GOLDEN.write_text(text + "\n")
