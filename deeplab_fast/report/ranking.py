"""The images of an evaluation in the order of their own scores: which went worst, and which best."""

import logging
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ..errors import UserError
from ..evaluation.metrics import Scores
from ..ops import confusion_matrix
from .subject import Subject

logger = logging.getLogger("deeplab_fast")


class Chosen(NamedTuple):
    """The indexes of the worst images, the worst first, and of the best, the best first."""

    worst: list[int]
    best: list[int]


def image_miou(confusion: NDArray[np.int64]) -> float:
    """Return the mean IoU of one image's confusion matrix ``[C, C]`` over the classes in its truth or prediction.

    NaN where it has no labelled pixel.
    """
    iou = Scores(confusion).iou
    return float(np.nanmean(iou)) if confusion.any() else math.nan


def score_images(subject: Subject, most: int) -> dict[int, float]:
    """Score images one by one, ``most`` of them spread evenly over the set where it has more: mIoU by index.

    A sample that cannot be used, or has no labelled pixel, is left out.
    """
    total = len(subject.source)
    indexes = np.unique(np.linspace(0, total - 1, min(most, total)).astype(int)).tolist()
    found: dict[int, float] = {}
    with subject.at_work():
        for index in tqdm(indexes, desc="report", unit="image", leave=False, disable=None):
            try:
                image, truth = subject.sample(index)
            except UserError as error:
                logger.warning("report: left out: %s", error)
                continue
            score = image_miou(confusion_of(subject, truth, subject.predict(image, truth.shape)))
            if not math.isnan(score):
                found[index] = score
    return found


def confusion_of(subject: Subject, truth: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count the pairs of two label maps ``[H, W]``: ``[C, C]``, rows truth."""
    maps = torch.from_numpy(truth), torch.from_numpy(prediction)
    return confusion_matrix(*maps, len(subject.names), subject.ignore_label).numpy()


def worst_and_best(scores: Mapping[int, float], most: int) -> Chosen:
    """Choose up to ``most`` images at each end; of fewer than twice as many none is chosen twice."""
    order = sorted((score, index) for index, score in scores.items() if not math.isnan(score))
    half = min(most, -(-len(order) // 2))
    rest = order[half:]
    return Chosen([i for _, i in order[:half]], [i for _, i in rest[::-1][:most]])
