"""Polygons along pixels' edges: drawn again they are the region to the pixel, holes too."""

import numpy as np
import pytest
from scipy import ndimage

from deeplab_fast.prediction.outline import outline

GENERATOR = np.random.default_rng(0)


def drawn(polygon, shape):
    """Pixels whose centre a polygon surrounds an odd number of times: independent of who drew it."""
    points = np.array(polygon).reshape(-1, 2)
    inside = np.zeros(shape, int)
    for (x, y), (to_x, to_y) in zip(points, np.roll(points, -1, 0), strict=True):
        assert x == to_x or y == to_y
        if x == to_x:
            inside[min(y, to_y) : max(y, to_y), x:] += 1
    return inside % 2 == 1


RING = np.pad(np.ones((5, 6), bool), 2)
RING[3:5, 4:6] = False
NESTED = np.zeros((15, 15), bool)
for i in range(7):
    NESTED[i : 15 - i, i : 15 - i] = i % 2 == 0
CASES = {
    "empty": np.zeros((4, 5), bool),
    "a pixel": np.ones((1, 1), bool),
    "all": np.ones((3, 7), bool),
    "a ring": RING,
    "nested": NESTED,
    "falls": np.eye(5, dtype=bool),
    "rises": np.eye(5, dtype=bool)[::-1],
    "holes that touch": ~np.pad(np.eye(5, dtype=bool), 2),
    "holes that touch, rising": ~np.pad(np.eye(5, dtype=bool)[::-1], 2),
    "holes in a row": np.pad(np.array([[0, 1, 0, 1, 0, 1, 0]], bool), 1, constant_values=True),
    "board": np.indices((9, 8)).sum(0) % 2 == 0,
    **{f"noise {share}": GENERATOR.random((31, 43)) < share for share in (0.1, 0.4, 0.6, 0.9)},
    "blots": ndimage.gaussian_filter(GENERATOR.random((90, 120)), 3) > 0.5,
}


@pytest.mark.parametrize("name", CASES)
def test_drawn_again_it_is_the_region(name):
    mask = CASES[name]
    labels, count = ndimage.label(mask)
    polygons = outline(mask)
    assert len(polygons) == count
    seen = set()
    for polygon in polygons:
        region = drawn(polygon, mask.shape)
        number = labels[region][0]
        assert np.array_equal(region, labels == number)
        seen.add(number)
    assert len(seen) == count


@pytest.mark.parametrize("name", CASES)
def test_pycocotools_draws_the_same(name):
    coco = pytest.importorskip("pycocotools.mask")
    mask = CASES[name]
    polygons = outline(mask)
    if polygons:
        runs = coco.merge(coco.frPyObjects([[float(n) for n in p] for p in polygons], *mask.shape))
        assert np.array_equal(coco.decode(runs), mask)
