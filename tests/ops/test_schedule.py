"""What the launchers schedule: every output once, no more taps than are alive, and no program much busier than others.

The kernels run these very tables, so their work is counted here, without a GPU.
"""

import itertools

import numpy as np
import pytest

from deeplab_fast.ops.conv.triton.schedule import PixelMap, Source, assign, conv_schedule, live_taps, weight_schedule
from deeplab_fast.ops.triton.tiles import CONV, CONV_HOPPER, CONV_PIXELS, CONV_WEIGHT

pytestmark = pytest.mark.gpu

MULTIPROCESSORS = 132  # an H100's and an H200's
ASPP = {(33, (6, 12, 18)): (0.66, 0.66, 0.59), (65, (12, 24, 36)): (0.64, 0.64, 0.59)}
WIDE = CONV_HOPPER[-1][1]


def branches(rates, sign=1):
    starts = [0, *(1 + 9 * i for i in range(len(rates)))]
    return [Source(0, start, sign * rate) for start, rate in zip(starts, (0, *rates), strict=True)]


@pytest.mark.parametrize(("size", "rates"), ASPP)
def test_aspp_leaves_out_dead_taps(size, rates):
    """Batch 32; per pixel of the map, of what a dense convolution does."""
    map_ = PixelMap(size, size, 32)
    forward = conv_schedule(map_, tuple((s,) for s in branches(rates)), 32, 1, CONV_PIXELS, MULTIPROCESSORS)
    turned = tuple(s._replace(group=i) for i, s in enumerate(branches(rates, -1)))
    backward = conv_schedule(map_, (turned,), 4, 8, CONV_PIXELS, MULTIPROCESSORS)
    tile = CONV_WEIGHT[0][1]
    weights = weight_schedule(map_, tuple(branches(rates)[1:]), 2, 16, tile.deep, tile.resident * MULTIPROCESSORS)
    shares = [schedule.taps / schedule.dense for schedule in (forward, backward, weights)]
    # Every program's steps, the ragged tile at the end of each row included, against the dense product spread evenly.
    ideal = 28 * size * size * 32 / WIDE.rows * 32 / MULTIPROCESSORS
    print([f"{share:.3f}" for share in shares], f"makespan {forward.makespan / ideal:.3f}")
    assert all(share <= limit for share, limit in zip(shares, ASPP[size, rates], strict=True))
    assert forward.makespan <= 0.70 * ideal


@pytest.mark.parametrize("map_", [PixelMap(1, 1, 1), PixelMap(5, 7, 3), PixelMap(33, 33, 1), PixelMap(9, 4, 32)])
@pytest.mark.parametrize("rate", [-36, -2, 1, 6, 40])
def test_every_output_once_and_every_tap_that_reads_a_pixel(map_, rate):
    schedule = conv_schedule(map_, ((Source(0, 0, rate),),), 1, 2, CONV_PIXELS, 7)
    done = np.zeros((map_.height, map_.columns, 2), int)
    for row, column, _, block, _, _, _, down, n_down, across, n_across in schedule.items:
        columns = range(column, min(column + CONV_PIXELS, map_.columns))
        done[row, columns, block] += 1
        for i in range(3):
            for j in range(3):
                reads = 0 <= row + (i - 1) * rate < map_.height and any(
                    0 <= c // map_.images + (j - 1) * rate < map_.width for c in columns
                )
                is_live = down <= i < down + n_down and across <= j < across + n_across
                assert is_live >= reads
    assert (done == 1).all()


@pytest.mark.parametrize("rate", [1, 3, 8])
def test_weights_sum_over_exactly_the_pixels_that_a_tap_reads(rate):
    map_ = PixelMap(7, 5, 4)
    schedule = weight_schedule(map_, (Source(0, 0, rate),), 1, 1, 4, 3)
    assert sorted(schedule.items[:, 0]) == list(range(9))
    for tap, _, _, _, row, rows, column, steps, down, across in schedule.items:
        found = {(r, c) for r in range(row, row + rows) for c in range(column, column + 4 * steps)}
        i, j = divmod(tap, 3)
        assert (down, across) == ((i - 1) * rate, (j - 1) * rate * map_.images)
        expected = {
            (r, c)
            for r in range(map_.height)
            for c in range(map_.columns)
            if 0 <= r + down < map_.height and 0 <= c + across < map_.columns
        }
        assert found == expected


def test_live_taps():
    assert live_taps(0, 0, 6, 33) == (1, 2)
    assert live_taps(16, 19, 6, 33) == (0, 3)
    assert live_taps(30, 32, 6, 33) == (0, 2)
    assert live_taps(30, 32, -6, 33) == (1, 2)
    assert live_taps(3, 3, 9, 9) == (1, 1)


def test_the_longest_go_first_and_loads_are_even():
    costs = np.array([1] * 20 + [9] * 5 + [4] * 7)
    order, starts = assign(costs, 6)
    assert sorted(order) == list(range(32))
    loads = [costs[order[a:b]].sum() for a, b in itertools.pairwise(starts)]
    assert max(loads) <= costs.sum() / 6 + 4  # the longest but one
    assert all(costs[order[a]] >= costs[order[b - 1]] for a, b in itertools.pairwise(starts))


def test_tiles_have_the_pixels_that_moments_are_of():
    assert {tile.rows for table in (CONV, CONV_HOPPER) for _, tile in table} == {CONV_PIXELS}
