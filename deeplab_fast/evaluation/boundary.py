"""Boundary IoU (Cheng et al., "Boundary IoU: improving object-centric image segmentation evaluation", CVPR 2021).

Of each class only the pixels count that are no farther from its contour than 2 % of the image's diagonal: those of the
truth's region near the truth's contour against those of the prediction's near the prediction's. The distance is the
chessboard's, as of repeated erosion by 3 x 3, and the image's edge is part of a contour.

Where the truth is ignored, the prediction is: what is ignored is a region of its own, whose edge is a contour of both,
so that a prediction that equals the truth wherever that is labelled scores 1.
"""

import math

import numpy as np
from numpy.typing import NDArray

DILATION = 0.02  # of the diagonal


def width_of(height: int, width: int) -> int:
    """Return how far from a contour a pixel counts, in pixels, at least 1."""
    return max(1, round(DILATION * math.hypot(height, width)))


def near_contour(classes: NDArray[np.integer], distance: int) -> NDArray[np.bool_]:
    """Tell which pixels of ``[H, W]`` have another class, or the outside, within ``distance``: ``[H, W]``."""
    from scipy.ndimage import maximum_filter, minimum_filter  # slow to import, and not always needed

    side = 2 * distance + 1
    near = maximum_filter(classes, side, mode="nearest") != minimum_filter(classes, side, mode="nearest")
    near[:distance] = near[-distance:] = near[:, :distance] = near[:, -distance:] = True
    return near


def boundary_counts(
    truth: NDArray[np.uint8], prediction: NDArray[np.uint8], num_classes: int, ignore_label: int
) -> NDArray[np.int64]:
    """Count the boundaries' pixels of each class: int64 ``[C, 3]``: in both, in the truth's, in the prediction's.

    ``truth`` and ``prediction``: uint8 ``[H, W]``.
    """
    labelled = truth != ignore_label
    distance = width_of(*truth.shape)
    of_truth, of_prediction = (
        near_contour(np.where(labelled, classes, np.int16(-1)), distance) & labelled for classes in (truth, prediction)
    )
    both = of_truth & of_prediction & (truth == prediction)
    parts = (truth[both], truth[of_truth], prediction[of_prediction])
    counted = [np.bincount(part, minlength=num_classes) for part in parts]
    return np.stack(counted, axis=1)
