"""Run lengths against pycocotools' own."""

import numpy as np
import pytest

from deeplab_fast.prediction.rle import encode_rle


@pytest.mark.parametrize("seed", range(6))
def test_equal_to_pycocotools(seed):
    mask_module = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 60, 2)
    masks = [rng.random((height, width)) < share for share in (0, 0.02, 0.5, 0.98, 1)]
    long = np.zeros((300, 400), bool)
    long[rng.integers(0, 300), 5:] = True  # runs of more than five bits, and falling ones
    for mask in [*masks, long]:
        assert encode_rle(mask) == mask_module.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
