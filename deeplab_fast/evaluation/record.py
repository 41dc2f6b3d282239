"""The content of a metrics file, as JSON has it."""

import dataclasses
from typing import Any

import numpy as np

from ..config import EvalConfig
from ..config.urls import public
from ..runtime import versions
from .boundary import DILATION
from .metrics import Scores, or_none
from .protocols import EvaluationProtocol


def as_record(config: EvalConfig, protocol: EvaluationProtocol, scores: Scores, names: list[str]) -> dict[str, Any]:
    """Return what the metrics file holds: protocol, figures, confusion matrix (rows: truth), versions."""
    record = scores.as_record()
    return {
        "protocol": protocol_record(protocol, config.ignore_label),
        "checkpoint": config.ckpt_path,
        "data": public(config.data_file) or config.data_lst,
        "images": scores.images,
        "skipped": list(scores.skipped),
        "miou": record["miou"],
        "miou_interval": None if scores.interval is None else dataclasses.asdict(scores.interval),
        "pixel_accuracy": record["pixel_accuracy"],
        "mean_accuracy": or_none(scores.mean_accuracy),
        "frequency_weighted_iou": or_none(scores.frequency_weighted_iou),
        "per_class_iou": dict(zip(_unique(names), record["per_class_iou"], strict=True)),
        "per_class": _per_class(scores, names),
        **_boundary(scores),
        "classes": names,
        "confusion_matrix": scores.confusion.tolist(),
        "precision": config.precision,
        "versions": versions(),
    }


def protocol_record(protocol: EvaluationProtocol, ignore_label: int) -> dict[str, Any]:
    """Return what was decided before anything was measured."""
    return {
        "name": protocol.name,
        **protocol.details(),
        "ignore_label": ignore_label,
        "miou": "mean over the classes in truth or prediction",
    }


def _per_class(scores: Scores, names: list[str]) -> list[dict[str, Any]]:
    """Return the figures of each class; null where they have no meaning."""
    columns = {
        "iou": scores.iou,
        "precision": scores.precision,
        "recall": scores.recall,
        "dice": scores.dice,
        **({} if scores.boundary_iou is None else {"boundary_iou": scores.boundary_iou}),
    }
    return [
        {"class": i, "name": name, **{key: or_none(column[i]) for key, column in columns.items()}}
        | {"pixels": int(scores.truth[i]), "predicted_pixels": int(scores.predicted[i])}
        for i, name in enumerate(names)
    ]


def _boundary(scores: Scores) -> dict[str, Any]:
    found = scores.boundary_iou
    if found is None:
        return {}
    mean = None if np.isnan(found).all() else float(np.nanmean(found))
    return {"boundary": {"miou": mean, "width": f"{DILATION:.0%} of the image's diagonal"}}


def _unique(names: list[str]) -> list[str]:
    """Return the names, those that occur twice with their class's number."""
    return [name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names)]
