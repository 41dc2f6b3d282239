"""The page of an evaluation, beside its metrics file."""

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..storage.run_folder import PAGE
from .evaluation import evaluation_of
from .gallery import gallery_of
from .page import render, subject_of, write_page
from .subject import Subject


@dataclass(frozen=True)
class Evaluated:
    """An evaluation that was done: what its file ``metrics`` holds, ``record``, and the network with its images.

    ``per_image``: the mIoU of each image by its index in the source.
    """

    record: Mapping[str, Any]
    metrics: Path
    subject: Subject
    per_image: Mapping[int, float]


def write_evaluation_page(evaluated: Evaluated) -> Path:
    """Write ``report.html`` beside the metrics file, with a number where another evaluation's page has that name.

    Raises:
        UserError: it cannot be written.
    """
    record = evaluated.record
    gallery = gallery_of(evaluated.subject, evaluated.per_image)
    page = render(
        "evaluation.html",
        subject=evaluated.metrics.name,
        evaluation=evaluation_of(record, gallery),
        name=Path(record["checkpoint"]).name,
        checkpoint=record["checkpoint"],
        data=record["data"],
        flags=record.get("provenance", {}).get("flags", {}),
        versions=record["versions"],
    )
    path = _free(evaluated.metrics.parent, evaluated.metrics.name)
    write_page(path, page)
    return path


def _free(folder: Path, subject: str) -> Path:
    """Return the page of this subject, or the first name that no file has."""
    first = folder / PAGE
    numbered = (first.with_stem(f"{first.stem}-{n}") for n in itertools.count(2))
    return next(p for p in itertools.chain([first], numbered) if not os.path.lexists(p) or subject_of(p) == subject)
