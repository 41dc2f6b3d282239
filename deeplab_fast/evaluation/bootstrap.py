"""An mIoU's interval of chance: the bootstrap over images (Efron, 1979), percentile intervals.

Each resample draws as many images as there are, with replacement; its mIoU is that of the sum of their counts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .per_image import ImageCounts

LEVEL = 0.95
RESAMPLES = 1000
SEED = 0
_DRAWS = 1 << 22  # at a time: 32 MB


@dataclass(frozen=True)
class Interval:
    """The ``low`` and ``high`` end of the interval that holds the share ``level`` of the resamples' mIoU."""

    low: float
    high: float
    level: float
    resamples: int
    seed: int


def miou_interval(
    images: ImageCounts, num_classes: int, resamples: int = RESAMPLES, seed: int = SEED, level: float = LEVEL
) -> Interval | None:
    """Return the interval of the mIoU, or None of fewer than two images, or where no resample has an mIoU.

    Memory does not grow with the number of resamples.
    """
    if len(images) < 2:
        return None
    found = resampled_mious(images, num_classes, resamples, seed)
    if np.isnan(found).all():
        return None
    low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level, resamples, seed)


def resampled_mious(images: ImageCounts, num_classes: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """Compute the mIoU of each resample: ``[resamples]``, NaN where its truth holds fewer than two classes."""
    from scipy.sparse import csr_matrix  # slow to import, and only once the work is done

    n = len(images)
    columns = (images.classes.astype(np.int64)[:, None] * 3 + np.arange(3)).ravel()
    counts = csr_matrix((images.pixels.astype(np.float64).ravel(), columns, images.starts * 3), (n, num_classes * 3)).T
    generator = np.random.default_rng(seed)
    at_once = max(1, _DRAWS // n)
    parts = []
    for begin in range(0, resamples, at_once):
        rows = min(at_once, resamples - begin)
        drawn = generator.integers(n, size=(rows, n)) + np.arange(rows)[:, None] * n
        times = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        parts.append(_mious((counts @ times.T.astype(np.float64)).T.reshape(rows, num_classes, 3)))
    return np.concatenate(parts)


def _mious(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mIoU of counts ``[R, C, 3]`` (found, truth, prediction): ``[R]``."""
    hits, truth, predicted = np.moveaxis(sums, 2, 0)
    union = truth + predicted - hits
    iou = np.divide(hits, union, out=np.zeros_like(hits), where=union > 0)
    several = (truth > 0).sum(1) > 1
    return np.where(several, iou.sum(1) / np.maximum(1, (union > 0).sum(1)), np.nan)
