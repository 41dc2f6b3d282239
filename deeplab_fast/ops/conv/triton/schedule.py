"""Plan of a convolution's persistent launch: the tiles it computes, with which taps, and which program takes them.

A map is stored pixel-major, ``[height, width * images, channels]``: the images of one pixel lie beside each
other, so a tile of ``wide`` columns covers few pixels of many images, and a tap that reads only padding there is
dead for all of them. Dead taps are left out, partly dead ones read zeros. A 1x1 convolution is the case of one
tap, and then any rows are a map of height 1.

The same tables drive the kernels and the tests that count their work.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...constants import kept
from ...triton.tiles import CONV_PIXELS, SHARE_OF_PEAK, ConvTile


class PixelMap(NamedTuple):
    """``[height, width * images, channels]``."""

    height: int
    width: int
    images: int

    @property
    def columns(self) -> int:
        return self.width * self.images

    @property
    def tiles(self) -> int:
        """Return of how many tiles a convolution stores the moments."""
        return self.height * -(-self.columns // CONV_PIXELS)


class Source(NamedTuple):
    """A convolution summed into an output.

    ``group``: which channels of the input; ``tap``: its first in the weights. ``rate`` 0 is a 1x1 convolution; else
    there are 3x3 taps, ``rate`` pixels apart, a negative rate turns them around as the gradient of the input does.
    """

    group: int
    tap: int
    rate: int


@dataclass(frozen=True, eq=False)  # each is made once
class Schedule:
    """``items`` int32 ``[n, fields]`` in the order of the programs; program ``p`` takes ``starts[p] : starts[p + 1]``.

    ``costs``: steps of the inner loop of each item. ``taps``: those executed for the map's pixels, all outputs
    together; ``dense``: what they would be without leaving out dead ones.
    """

    items: NDArray[np.int32]
    starts: NDArray[np.int32]
    costs: NDArray[np.int64]
    taps: int
    dense: int

    @property
    def makespan(self) -> int:
        """Return the steps of the busiest program."""
        sums = np.add.reduceat(np.append(self.costs, 0), self.starts[:-1])
        return int(sums[self.starts[:-1] < self.starts[1:]].max())


def live_taps(first: int, last: int, rate: int, size: int) -> tuple[int, int]:
    """Return of an axis' three taps the first that reads a pixel for any of ``first`` ... ``last``, and how many do."""
    low = 0 if last - rate >= 0 and first - rate < size else 1
    high = 2 if last + rate >= 0 and first + rate < size else 1
    return low, high - low + 1


def assign(costs: NDArray[np.int64], programs: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Assign items (costs ``[items]``) to programs, the longest first to the least loaded: their order, and starts."""
    programs = max(1, min(programs, len(costs)))
    order = np.argsort(-costs, kind="stable")
    if costs.min() == costs.max():
        owner = np.arange(len(costs)) % programs
    else:
        heap = [(0, p) for p in range(programs)]
        owner = np.empty(len(costs), np.int64)
        for place, item in enumerate(order):
            load, p = heap[0]
            owner[place] = p
            heapq.heapreplace(heap, (load + int(costs[item]), p))
    by_program = np.argsort(owner, kind="stable")
    starts = np.searchsorted(owner[by_program], np.arange(programs + 1))
    return order[by_program], starts.astype(np.int32)


@cache
def conv_schedule(
    map_: PixelMap, outputs: Sequence[Sequence[Source]], k_blocks: int, column_blocks: int, wide: int, programs: int
) -> Schedule:
    """Return the schedule of a convolution: each entry of ``outputs`` is a group of channels, the sum of its sources.

    An item's fields: row, column, group of output channels, block of them; then for each source its group, tap,
    rate, first live tap and number of live taps of the rows, the same of the columns.
    """
    rows: list[tuple[int, ...]] = []
    costs, taps, dense = [], 0, 0
    for row in range(map_.height):
        for column in range(0, map_.columns, wide):
            last = min(column + wide, map_.columns) - 1
            for group, sources in enumerate(outputs):
                fields: list[int] = []
                live = whole = 0
                for source in sources:
                    down, across = (0, 1), (0, 1)
                    if source.rate:
                        first, end = column // map_.images, last // map_.images
                        down = live_taps(row, row, source.rate, map_.height)
                        across = live_taps(first, end, source.rate, map_.width)
                    fields += [*source, *down, *across]
                    live += down[1] * across[1]
                    whole += 9 if source.rate else 1
                taps += live * (last + 1 - column)
                dense += whole * (last + 1 - column)
                rows += [(row, column, group, block, *fields) for block in range(column_blocks)]
                costs += [live * k_blocks] * column_blocks
    order, starts = assign(np.array(costs), programs)
    return Schedule(np.array(rows, np.int32)[order], starts, np.array(costs)[order], taps, dense)


@cache
def shortest(
    tiles: Sequence[ConvTile], map_: PixelMap, outputs: Sequence[Sequence[Source]], channels_in: int, channels_out: int,
    multiprocessors: int,
) -> tuple[ConvTile, Schedule, float]:  # fmt: skip
    """Return the tile whose schedule ends first, that schedule, and its time in FLOP of a multiprocessor's peak."""
    found = []
    for tile in tiles:
        blocks = -(-channels_in // tile.deep), -(-channels_out // tile.columns)
        schedule = conv_schedule(map_, outputs, *blocks, tile.rows, tile.resident * multiprocessors)
        step = 2 * tile.rows * tile.columns * tile.deep * tile.resident
        found.append((tile, schedule, schedule.makespan * step / SHARE_OF_PEAK[tile.columns]))
    return min(found, key=lambda candidate: candidate[2])


@cache
def weight_schedule(
    map_: PixelMap, sources: Sequence[Source], out_blocks: int, in_blocks: int, deep: int, programs: int
) -> Schedule:
    """Return the schedule of the weights' gradient: for each tap a sum over the outputs whose input is no padding.

    ``sources``: ``group`` here is that of the output's gradient. An item's fields: tap, group, block of output
    channels, block of input channels, first row, rows, first column and blocks of ``deep`` columns of the
    rectangle, and the input's distance from it in rows and in columns. A tap without a pixel keeps one item of no
    rows: its gradient is 0.
    """
    rows: list[tuple[int, ...]] = []
    costs, taps, dense = [], 0, 0
    blocks = [(out, in_) for out in range(out_blocks) for in_ in range(in_blocks)]
    for source in sources:
        shifts = (-1, 0, 1) if source.rate else (0,)
        for tap, (down, across) in enumerate((d * source.rate, a * source.rate) for d in shifts for a in shifts):
            height, width = max(map_.height - abs(down), 0), max(map_.width - abs(across), 0)
            if not height or not width:
                height = width = 0
            column_steps = -(-width * map_.images // deep)
            rectangle = (max(0, -down), height, max(0, -across) * map_.images, column_steps)
            rows += [
                (source.tap + tap, source.group, *block, *rectangle, down, across * map_.images) for block in blocks
            ]
            costs += [height * column_steps] * len(blocks)
            taps += height * column_steps * deep
            dense += map_.height * map_.columns
    order, starts = assign(np.array(costs), programs)
    return Schedule(np.array(rows, np.int32)[order], starts, np.array(costs)[order], taps, dense)


@kept(None)  # as the schedules above are: a CUDA graph replays the tables from where they are
def tables(schedule: Schedule, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return items ``[items, 4]`` and starts ``[programs + 1]`` on ``device``, copied there once."""
    return torch.from_numpy(schedule.items).to(device), torch.from_numpy(schedule.starts).to(device)
