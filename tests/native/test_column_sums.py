"""What a matrix product's epilogue adds up for a BatchNorm, run on the host thread by thread."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
THREADS, VALUES, COLUMNS, SUBTILE = 128, 16, 32, 64

pytestmark = pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="no C++ compiler here")


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    target = tmp_path_factory.mktemp("host") / "column_sums.so"
    compiler = shutil.which("c++") or "g++"
    flags = ["-std=c++17", "-O1", "-ffp-contract=off", "-fPIC", "-shared", "-pthread", "-Wno-unknown-pragmas"]
    subprocess.run([compiler, *flags, HERE / "column_sums_host.cpp", "-o", target], check=True)
    return ctypes.CDLL(str(target))


def pointer(array):
    assert array.dtype == np.float32
    assert array.flags.c_contiguous
    return array.ctypes.data_as(ctypes.c_void_p)


def moments(host, x, subtiles=2, outside=0.0):
    out = np.full((3, COLUMNS), np.nan, np.float32)
    host.moments(pointer(x), len(x), subtiles, ctypes.c_float(outside), pointer(out))
    return out


def test_every_value_of_a_subtile_is_held_once(host):
    places = sorted(host.place(t, i) for t in range(THREADS) for i in range(VALUES))
    assert places == list(range(SUBTILE * COLUMNS))


# 128: whole; the others end within a strip of 16 rows or at its end, in its upper or lower half, in either subtile.
@pytest.mark.parametrize("rows", [128, 127, 65, 64, 63, 57, 33, 32, 17, 16, 9, 8, 5, 1])
def test_moments_of_ragged_tiles(host, rows):
    x = np.random.default_rng(rows).normal(0.5, 2.0, (rows, COLUMNS)).astype(np.float32)
    count, mean, m2 = moments(host, x, outside=1e30)  # what lies beyond the map must not count
    exact = x.astype(np.float64)
    assert np.all(count == rows)
    np.testing.assert_allclose(mean, exact.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(m2, ((exact - exact.mean(0)) ** 2).sum(0), rtol=1e-5, atol=1e-6)


def rounded(x, dtype):
    """As fp16 or bf16 store them."""
    if dtype == "fp16":
        return x.astype(np.float16).astype(np.float32)
    return (x.astype(np.float32).view(np.uint32) + 0x8000 & np.uint32(0xFFFF0000)).view(np.float32)


@pytest.mark.parametrize(
    ("mean", "deviation", "dtype"),
    [(1e4, 1.0, "fp32"), (1e4, 20.0, "fp16"), (1e4, 200.0, "bf16"), (-3e4, 30.0, "fp16")],
)
def test_a_large_mean_costs_no_digits(host, mean, deviation, dtype):
    x = np.random.default_rng(1).normal(mean, deviation, (128, COLUMNS)).astype(np.float32)
    x = x if dtype == "fp32" else rounded(x, dtype)
    exact = x.astype(np.float64)
    m2 = ((exact - exact.mean(0)) ** 2).sum(0)
    found = moments(host, x)
    np.testing.assert_allclose(found[1], exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found[2], m2, rtol=1e-5)
    raw = (x * x).sum(0, dtype=np.float32) - x.sum(0, dtype=np.float32) ** 2 / np.float32(128)
    assert np.abs(raw - m2).max() > 1e-5 * m2.max()  # where plain sums of squares do lose them


def test_a_pivot_that_is_far_off(host):
    x = np.random.default_rng(2).normal(0.0, 1.0, (128, COLUMNS)).astype(np.float32)
    x[[0, 16, 32, 48]] = 1e4  # each warp's first row
    exact = x.astype(np.float64)
    np.testing.assert_allclose(moments(host, x)[2], ((exact - exact.mean(0)) ** 2).sum(0), rtol=1e-5)


def test_equal_values_have_no_deviation(host):
    found = moments(host, np.full((128, COLUMNS), 12345.0, np.float32))
    assert np.all(found[1] == 12345.0)
    assert np.all(found[2] == 0.0)


@pytest.mark.parametrize("rows", [128, 100, 64, 31, 1])
def test_sums_of_the_gradient(host, rows):
    rng = np.random.default_rng(rows)
    dz, deviation = (rng.normal(0.1, 1.0, (rows, COLUMNS)).astype(np.float32) for _ in range(2))
    out = np.full((2, COLUMNS), np.nan, np.float32)
    host.gradient_sums(pointer(dz), pointer(deviation), rows, 2, pointer(out))
    np.testing.assert_allclose(out[0], dz.sum(0, dtype=np.float64), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(out[1], (dz.astype(np.float64) * deviation).sum(0), rtol=1e-5, atol=1e-5)


def test_the_same_bits_again(host):
    x = np.random.default_rng(3).normal(0.0, 1.0, (128, COLUMNS)).astype(np.float32)
    assert np.array_equal(moments(host, x), moments(host, x))
