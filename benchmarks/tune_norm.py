"""Tiles of the normalisation's kernels on the GPU at hand: each kernel, at the network's shapes, with each tile.

``python -m benchmarks.run tune_norm`` prints, for each kernel and shape, the fastest tile and what it reaches of a
copy's bandwidth; ``ops/triton/tiles.py`` is edited by hand after it, since a tile must also spill nowhere
(``tests/compile``).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch

from deeplab_fast.cli import run
from deeplab_fast.config.flags import flag
from deeplab_fast.ops.triton.tiles import Tile
from deeplab_fast.runtime.environment import environment

from .cases.kernel import kernel_device
from .kernels import copy_bandwidth
from .report import as_table, as_text, configure, write_results
from .timing import captured, interleave_on_device

# (rows, channels) at batch 32, crop 513: layer3, its inner ones, layer2, layer1, its inner ones
SHAPES = ((34848, 1024), (34848, 256), (135200, 512), (532512, 256), (532512, 64))
TILES = ((64, 64, 8), (32, 64, 8), (32, 64, 4), (32, 128, 8), (16, 128, 4), (128, 64, 8), (16, 64, 4), (64, 128, 8))


@dataclass(frozen=True, kw_only=True)
class TuneNormConfig:
    """Tuning"""

    rounds: int = flag(10, "Timed runs of each.", minimum=4)
    out: str = flag("", "Folder for norm_tiles.json and norm_tiles.md.")


@dataclass
class Pass:
    """A launch of one kernel, and how many activations it reads and writes."""

    name: str
    activations: int
    run: Callable[[], Any]


def passes(rows: int, channels: int, device: torch.device) -> Iterator[Pass]:
    from deeplab_fast.ops.norm.triton import batch_norm_stats as batch_moments
    from deeplab_fast.ops.norm.triton import norm_relu as kernels

    x, dy, y, more = (torch.randn(rows, channels, device=device).to(torch.bfloat16) for _ in range(4))
    out, dz = torch.empty_like(x), torch.empty_like(x)
    mean, variance, weight, bias = (torch.rand(channels, device=device) + 0.5 for _ in range(4))
    rest = (mean, variance, weight, bias, 1e-5)
    sums = torch.zeros_like(mean), torch.zeros_like(mean)
    count = float(rows)
    yield Pass("statistics", 1, lambda: batch_moments.partial_moments(x))
    yield Pass("forward", 2, lambda: kernels.norm_relu(x, None, *rest, True, out))
    yield Pass("forward with a residual", 3, lambda: kernels.norm_relu(x, more, *rest, True, out))
    yield Pass("forward of a pair", 3, lambda: kernels.norm_relu(x, more, *rest, True, out, rest[:4]))
    yield Pass("sums", 2, lambda: kernels.norm_relu_sums(dy, x, None, *rest, True))
    yield Pass("sums of two readers", 5, lambda: kernels.norm_relu_sums(dy, x, y, *rest, True, more, dz))
    pair = (out, mean, variance)
    yield Pass("sums of a pair", 6, lambda: kernels.norm_relu_sums(dy, x, y, *rest, True, more, dz, pair))
    yield Pass("gradient", 3, lambda: kernels.norm_relu_backward(dy, x, None, *rest, True, sums, count, out, None))
    yield Pass(
        "gradient from dz", 3, lambda: kernels.norm_relu_backward(dy, x, None, *rest, False, sums, count, out, None)
    )


def with_tile(tile: Tile, work: Callable[[], Any]) -> Callable[[], Any]:
    """``work`` with ``tile`` in place of those of the norm kernels' tables."""
    from deeplab_fast.ops.norm.triton import batch_norm_stats as batch_moments
    from deeplab_fast.ops.norm.triton import norm_relu as kernels

    table = ((1 << 30, tile),)

    def tiled() -> Any:
        with mock.patch.object(batch_moments, "MOMENTS", table), mock.patch.multiple(kernels, NORM=table, SUMS=table):
            with mock.patch.multiple(kernels, NORM_PAIR=table, NORM_BACKWARD=table, SUMS_PAIR=table):
                return work()

    return tiled


def as_markdown(results: dict[str, Any]) -> str:
    where = results["environment"]
    title = (
        f"Passes of the normalisation, bf16: {where['device']}, torch {where['torch']}, {where['date']}. A copy moves"
        f" {results['copy_bandwidth'] / 1e9:.0f} GB/s. Sums include the merge of the programs' parts."
    )
    rows = []
    for name, shapes in results["passes"].items():
        for shape, found in shapes.items():
            best = min(found["ms"], key=found["ms"].get)
            share = found["bytes"] / (found["ms"][best] / 1e3) / results["copy_bandwidth"]
            rows.append((name, shape, best, f"{found['ms'][best]:.4f}", f"{share:.0%}"))
    return as_text(
        title, as_table("pass | shape | fastest tile (rows x columns, warps) | ms | of a copy's bandwidth", rows)
    )


def main(argv: list[str]) -> int:
    config = configure(TuneNormConfig, argv, "tune_norm")
    device = kernel_device(dry_run=False)
    torch.manual_seed(0)
    results: dict[str, Any] = {
        "environment": environment(device),
        "copy_bandwidth": copy_bandwidth(config.rounds, device),
        "passes": {},
    }
    for rows, channels in SHAPES:
        for one in passes(rows, channels, device):
            tiles = {f"{r}x{c}, {warps}": captured(with_tile(Tile(r, c, warps), one.run)) for r, c, warps in TILES}
            timings = interleave_on_device(tiles, config.rounds)
            results["passes"].setdefault(one.name, {})[f"{rows}x{channels}"] = {
                "bytes": 2 * one.activations * rows * channels,
                "ms": {name: 1e3 * timing.median for name, timing in timings.items()},
            }
    write_results(config.out, "norm_tiles", results, as_markdown(results))
    return 0


if __name__ == "__main__":
    run(main)
