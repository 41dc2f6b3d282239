"""Draws ``deeplab_fast/ops/conv/schedule.png``: which taps each tile executes, and what each program is given.

``python -m benchmarks.schedule_picture`` reads the launchers' own schedule of the atrous branches of ASPP at batch 32
and output stride 16, for a GPU of 132 multiprocessors.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from deeplab_fast.ops.conv.triton.schedule import PixelMap, Schedule, Source, conv_schedule, live_taps
from deeplab_fast.ops.triton.tiles import CONV_PIXELS

PICTURE = Path(__file__).parent.parent / "deeplab_fast" / "ops" / "conv" / "schedule.png"
MAP, RATES, MULTIPROCESSORS = PixelMap(33, 33, 32), (6, 12, 18), 132
_TAPS = plt.get_cmap("viridis_r", 9)


def taps_pixel_major(rate: int) -> NDArray[np.int64]:
    """Live taps of each pixel's tile, which is a few pixels of all images."""
    schedule = conv_schedule(MAP, ((Source(0, 0, rate),),), 1, 1, CONV_PIXELS, 1)
    taps = np.zeros((MAP.height, MAP.columns), np.int64)
    for (row, column, *_), cost in zip(schedule.items, schedule.costs, strict=True):
        taps[row, column : column + CONV_PIXELS] = cost
    return taps[:, :: MAP.images]


def taps_channels_last(rate: int) -> NDArray[np.int64]:
    """Of each pixel's tile where that is consecutive pixels of one image."""
    h, w = MAP.height, MAP.width
    taps = np.zeros(h * w, np.int64)
    for first in range(0, h * w, CONV_PIXELS):
        pixels = np.arange(first, min(first + CONV_PIXELS, h * w))
        rows, columns = np.divmod(pixels, w)
        taps[pixels] = sum(
            bool(np.any((rows + i >= 0) & (rows + i < h) & (columns + j >= 0) & (columns + j < w)))
            for i in (-rate, 0, rate)
            for j in (-rate, 0, rate)
        )
    return taps.reshape(h, w)


def exact(rate: int) -> float:
    """The share of taps that read a pixel."""
    alive = sum(live_taps(p, p, rate, MAP.width)[1] for p in range(MAP.width))
    return (alive / (3 * MAP.width)) ** 2


def draw_taps(axes: Axes, taps: NDArray[np.int64], title: str) -> None:
    axes.imshow(taps, cmap=_TAPS, vmin=0.5, vmax=9.5)
    axes.set_title(f"{title}: {taps.mean() / 9:.0%} of the taps", fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])


def draw_programs(axes: Axes, schedule: Schedule) -> None:
    """A column for each program: its items from the longest, coloured by the taps that are alive in it."""
    k_blocks = int(min(schedule.costs))
    for program, (start, end) in enumerate(zip(schedule.starts[:-1], schedule.starts[1:], strict=True)):
        bottom = 0.0
        for cost in schedule.costs[start:end] / k_blocks:
            axes.bar(program, cost, 1.0, bottom, color=_TAPS(int(cost) - 1), edgecolor="white", linewidth=0.15)
            bottom += cost
    dense = schedule.dense / CONV_PIXELS / (len(schedule.starts) - 1)
    axes.axhline(dense, color="black", linewidth=1)
    axes.text(0, dense * 1.01, "an even share of every tap", fontsize=9, va="bottom")
    axes.set_xlim(-0.5, len(schedule.starts) - 1.5)
    axes.set_ylim(0, dense * 1.1)
    axes.set_xlabel("program of the persistent launch, one a multiprocessor", fontsize=9)
    axes.set_ylabel("taps executed, one after the other", fontsize=9)
    busiest = schedule.makespan / k_blocks / dense
    axes.set_title(f"ASPP's four convolutions in one launch: the busiest program does {busiest:.0%}", fontsize=10)


def draw(path: Path) -> None:
    figure = plt.figure(figsize=(11, 10.5), layout="constrained")
    grid = figure.add_gridspec(3, 4, height_ratios=(1, 1, 1.35), width_ratios=(1, 1, 1, 0.05))
    rows = {"channels-last": taps_channels_last, "pixel-major": taps_pixel_major}
    for line, (name, taps) in enumerate(rows.items()):
        for column, rate in enumerate(RATES):
            axes = figure.add_subplot(grid[line, column])
            draw_taps(axes, taps(rate), f"rate {rate}, {name}")
            if line:
                axes.set_xlabel(f"{exact(rate):.0%} read a pixel at all", fontsize=9)
    bar = figure.colorbar(plt.cm.ScalarMappable(plt.Normalize(0.5, 9.5), _TAPS), cax=figure.add_subplot(grid[:2, 3]))
    bar.set_ticks(list(range(1, 10)))
    bar.set_label("taps that a tile of 128 outputs executes", fontsize=9)
    outputs = tuple((Source(0, start, rate),) for start, rate in zip((0, 1, 10, 19), (0, *RATES), strict=True))
    draw_programs(figure.add_subplot(grid[2, :]), conv_schedule(MAP, outputs, 1, 1, CONV_PIXELS, MULTIPROCESSORS))
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE)
