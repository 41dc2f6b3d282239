"""csrc/core/exp.h against double precision, compiled apart from the extension: with and without fused steps."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

CSRC = Path(__file__).parents[2] / "csrc"
SOURCE = """
#include "core/exp.h"
extern "C" void exps(const float* x, float* y, long n) {
  for (long i = 0; i < n; ++i) y[i] = deeplab_fast::exp_of<FUSED, float>(x[i]);
}
extern "C" void logs(const float* x, float* y, long n) {
  for (long i = 0; i < n; ++i) y[i] = deeplab_fast::log_of<FUSED, float>(x[i]);
}
"""

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not on PATH")


@pytest.fixture(scope="module", params=["true", "false"], ids=["fused", "not fused"])
def library(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exp")
    source, target = folder / "exp.cpp", folder / "exp.so"
    source.write_text(SOURCE)
    flags = ["-std=c++17", "-O2", "-ffp-contract=off", "-shared", "-fPIC", f"-I{CSRC}", f"-DFUSED={request.param}"]
    subprocess.run(["g++", *flags, str(source), "-o", str(target)], check=True)
    return ctypes.CDLL(str(target))


def apply(function, x):
    x = np.ascontiguousarray(x, np.float32)
    y = np.full_like(x, np.nan)
    pointer = ctypes.POINTER(ctypes.c_float)
    function(x.ctypes.data_as(pointer), y.ctypes.data_as(pointer), ctypes.c_long(x.size))
    return y


def units_off(found, exact):
    """Errors in units in the last place of the exact value."""
    return np.abs(found.astype(np.float64) - exact) / np.spacing(exact.astype(np.float32)).astype(np.float64)


def test_exp_is_exact_to_two_units(library):
    x = np.concatenate([np.linspace(-87.3, 88.0, 2_000_003), np.linspace(-1e-3, 1e-3, 1001)]).astype(np.float32)
    assert units_off(apply(library.exps, x), np.exp(x.astype(np.float64))).max() <= 2


def test_exp_of_what_is_too_small_is_nothing(library):
    x = np.array([-87.34, -88, -103.9, -104, -1e3, -1e9, -1e30, -3.4e38, -np.inf], np.float32)
    assert not apply(library.exps, x).any()


def test_exp_of_0_and_nan(library):
    found = apply(library.exps, [0.0, -0.0, np.nan])
    assert found[0] == found[1] == 1
    assert np.isnan(found[2])


def test_log(library):
    x = np.concatenate([np.exp(np.linspace(-87.3, 88.0, 1_000_003)), np.linspace(0.5, 2, 1_000_003)])
    x = x.astype(np.float32)
    exact = np.log(x.astype(np.float64))
    found = apply(library.logs, x)
    assert ((units_off(found, exact) <= 2) | (np.abs(found - exact) <= 1e-7)).all()
    assert apply(library.logs, [1.0])[0] == 0
    assert not np.isfinite(apply(library.logs, [np.nan, np.inf])).any()
