"""Where the 3x3 convolutions by CUTLASS read: their kernels' own coordinates, followed on the host.

The tensor memory accelerator is played as NVIDIA's PTX manual describes it (mode ``im2col``): from the first pixel on
it walks through the box that the corners leave of the map, width first, adds the tap's offset to each, and gives zeros
beyond the map. Whatever that makes of a random map must be torch's convolution, and its gradient.
"""

import ctypes
import itertools
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

HERE = Path(__file__).parent
KEPT = Path(__file__).parents[2] / "build" / "cuda"
HEADERS = sorted(path for path in KEPT.glob("cutlass-*/include") if ".partial" not in path.parent.name)
ROWS, COLUMNS, CHANNELS = 128, 128, 64  # of a tile

pytestmark = [
    pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc here"),
    pytest.mark.skipif(not HEADERS, reason=f"no CUTLASS in {KEPT}"),
]

# Images, height, width, rate, in, out: ragged tiles of each, taps beyond the map, the farthest rate.
CASES = {
    "one pixel": (1, 1, 1, 1, 8, 8),
    "several tiles of rows": (3, 9, 11, 1, 16, 24),
    "several tiles of channels": (2, 7, 5, 2, 136, 72),
    "several tiles of outputs": (1, 6, 5, 1, 72, 136),
    "taps beyond the map": (2, 4, 5, 8, 8, 16),
    "the farthest": (1, 17, 18, 15, 8, 8),
}


@pytest.fixture(scope="session")
def told(once):
    return ctypes.CDLL(str(once("im2col.so", compile_host)))


def compile_host(target):
    include = [f"-I{HEADERS[-1]}", f"-I{HEADERS[-1].parent / 'tools/util/include'}"]
    flags = ["-std=c++17", "-O1", "-DNDEBUG", "-Xcompiler", "-fPIC", "-shared", "--expt-relaxed-constexpr"]
    command = [
        "nvcc",
        *flags,
        "-gencode=arch=compute_90a,code=compute_90a",
        *include,
        HERE / "im2col_host.cu",
        "-o",
        target,
    ]
    environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}  # nvcc does not bear the sanitizers'
    subprocess.run(command, check=True, capture_output=True, env=environment)


class Reader:
    """What one launch is told."""

    def __init__(self, host, is_forward, images, height, width, rate, is_pixel_major, columns, summed):
        self.host, self.is_forward = host, int(is_forward)
        self.given = (ctypes.c_int * 7)(images, height, width, rate, int(is_pixel_major), columns, summed)
        sizes = (ctypes.c_int * 16)()
        host.sizes(self.is_forward, self.given, sizes)
        self.tiles = sizes[0], sizes[1], sizes[2]
        self.lower, upper, self.extent = (np.array(sizes[i : i + 3]) for i in (3, 6, 9))
        self.box = [*(self.extent + upper - self.lower), sizes[12]]  # pixels of w, h, d; images

    def coordinates(self, m, n, k):
        out = (ctypes.c_int * 16)()
        self.host.coordinates(self.is_forward, self.given, m, n, k, out)
        return list(out[:8]), list(out[8:13])

    def rows(self, map_, at):
        """``[128, 64]`` of ``map_`` ``[n, d, h, w, c]`` from there on."""
        channel, *first, image = at[:5]
        place = np.array([*(first - self.lower), image])
        position = np.ravel_multi_index(place[::-1], self.box[::-1]) if (place >= 0).all() else 0
        tile = np.zeros((ROWS, CHANNELS))
        count = int(np.prod(self.box))
        for i in range(min(ROWS, count - position)):
            image, *pixel = np.unravel_index(position + i, self.box[::-1])
            w, h, d = self.lower + pixel[::-1] + at[5:8]
            if 0 <= w < self.extent[0] and 0 <= h < self.extent[1] and 0 <= d < self.extent[2]:
                values = map_[image, d, h, w, channel : channel + CHANNELS]
                tile[i, : len(values)] = values
        return tile

    def weights(self, taps, at):
        """``[128, 64]`` of weights ``[k, t, r, s, c]``: outputs, or in the gradient inputs, by summed channels."""
        c, k, s, r, t = at
        if self.is_forward:
            values = taps[k : k + COLUMNS, t, r, s, c : c + CHANNELS]
        else:
            values = taps[k : k + CHANNELS, t, r, s, c : c + COLUMNS].T
        tile = np.zeros((COLUMNS, CHANNELS))
        tile[: values.shape[0], : values.shape[1]] = values
        return tile

    def product(self, map_, taps, rows, columns):
        found = np.zeros((self.tiles[0] * ROWS, self.tiles[1] * COLUMNS))
        for m, n, k in itertools.product(*map(range, self.tiles)):
            a, b = self.coordinates(m, n, k)
            part = self.rows(map_, a) @ self.weights(taps, b).T
            found[m * ROWS : (m + 1) * ROWS, n * COLUMNS : (n + 1) * COLUMNS] += part
        return found[:rows, :columns]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("is_pixel_major", [False, True])
@pytest.mark.parametrize("is_forward", [True, False])
def test_what_is_read_is_the_convolution_s(told, case, is_pixel_major, is_forward, capfd):
    n, h, w, rate, c, k = case
    generator = torch.Generator().manual_seed(0)
    x, weight, dy = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((n, c, h, w), (k, c, 3, 3), (n, k, h, w))
    )
    x.requires_grad_()
    y = F.conv2d(x, weight, padding=rate, dilation=rate)
    if is_forward:
        read, expected, columns, summed = x.detach(), y.detach(), k, c
    else:
        (expected,) = torch.autograd.grad(y, x, dy)
        read, columns, summed = dy, c, k
    order = (2, 3, 0, 1) if is_pixel_major else (0, 2, 3, 1)
    map_ = read.permute(order).numpy()[None] if is_pixel_major else read.permute(order).numpy()[:, None]
    taps = weight.permute(0, 2, 3, 1).numpy()
    taps = taps[:, :, :, None] if is_pixel_major else taps[:, None]
    reader = Reader(told, is_forward, n, h, w, rate, is_pixel_major, columns, summed)
    found = reader.product(map_, taps, n * h * w, columns)
    capfd.readouterr()  # CUTLASS says each time that no driver takes the descriptor
    np.testing.assert_allclose(found, expected.permute(order).reshape(-1, columns).numpy(), rtol=1e-9, atol=1e-9)
