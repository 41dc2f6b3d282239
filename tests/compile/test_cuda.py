"""The CUDA sources compile, without a warning and without spilling, whether or not there is a GPU."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
NVCC = shutil.which("nvcc")

pytestmark = pytest.mark.skipif(NVCC is None, reason="nvcc is not on PATH")


@pytest.mark.parametrize("source", ["augment.cu", "confusion.cu"])
def test_kernels_compile_for_hopper(source, tmp_path):
    command = [
        *(NVCC, "-c", "-std=c++17", "-O3", "--fmad=false", "-Werror", "all-warnings", "-Xptxas", "-v"),
        *("-Xcompiler", "-Wall,-Wextra,-Werror,-ffp-contract=off", "-gencode=arch=compute_90,code=sm_90"),
        *(str(CSRC / "cuda" / source), "-o", str(tmp_path / "kernel.o")),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", done.stderr)
    assert spills
    assert set(spills) == {("0", "0")}
    registers = [int(n) for n in re.findall(r"Used (\d+) registers", done.stderr)]
    assert max(registers) <= 64  # 1,024 threads a multiprocessor


def test_the_arithmetic_is_the_same_header_for_both_compilers(tmp_path):
    """csrc/core alone, as device code and as host code, every warning an error."""
    source = tmp_path / "core.cpp"
    source.write_text("".join(f'#include "core/{path.name}"\n' for path in sorted((CSRC / "core").glob("*.h"))))
    flags = ["-std=c++17", f"-I{CSRC}", "-c", str(source)]
    for command in (
        [NVCC, "-x", "cu", "-Werror", "all-warnings", "--fmad=false", "-gencode=arch=compute_90,code=sm_90", *flags],
        ["g++", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", *flags],
    ):
        done = subprocess.run([*command, "-o", str(tmp_path / "core.o")], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
