"""The page of a training run: written at its end, or again from what lies in its folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..evaluation.metrics import Scores
from ..runtime import versions
from ..storage.files import make_folder
from ..storage.run_folder import EVALUATION, PAGE, REPORT
from .curves import run_charts
from .evaluation import Evaluation, evaluation_of
from .gallery import Gallery, as_gallery, as_record, gallery_of
from .page import render, write_page
from .ranking import score_images
from .runs import RunRecord, keep_evaluation, read_run
from .subject import Subject

MOST_SCORED = 48  # images that are scored for the choice of the worst and best where no evaluation did it
_PER_IMAGE = "miou_by_sample"


def keep_scores(
    folder: Path, scores: Scores, names: list[str], protocol: Mapping[str, Any], precision: str, step: int
) -> None:
    """Keep the scores of an evaluation with their confusion matrix in the run's report, for its page.

    ``protocol``: what the metrics file of an evaluation says of it.

    Raises:
        UserError: they cannot be written.
    """
    make_folder(folder / REPORT, str(folder / REPORT))
    content = {
        "step": step,
        "protocol": dict(protocol),
        "images": scores.images,
        "skipped": list(scores.skipped),
        "classes": names,
        "confusion_matrix": scores.confusion.tolist(),
        "precision": precision,
        **({} if scores.per_image is None else {_PER_IMAGE: list(scores.per_image.miou_by_sample.items())}),
        "versions": versions(),
    }
    keep_evaluation(folder, content)


def write_report(folder: Path, subject: Subject | None, weights: str = "") -> Path:
    """Write the page of the run in ``folder``, with pictures of the worst and best of the ``subject``'s images.

    ``weights``: the words that name the subject's weights, such as "last weights, step 300".

    Returns:
        the report's folder.

    Raises:
        UserError: it cannot be written.
    """
    report = folder / REPORT
    make_folder(report, str(report))
    if subject is not None:
        kept = read_run(folder).kept or {}
        known = {int(index): float(miou) for index, miou in kept.get(_PER_IMAGE, ())}
        gallery = gallery_of(subject, known or score_images(subject, MOST_SCORED), weights)
        keep_evaluation(folder, {**kept, "pictures": as_record(gallery)})
    write_run_page(folder)
    return report


def write_run_page(folder: Path) -> Path:
    """Write the page of the run in ``folder`` from what lies there.

    Raises:
        UserError: it is no run's folder, a file in it is damaged, or the page cannot be written.
    """
    run = read_run(folder)
    try:
        page = _page(run)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise UserError(f"{folder / REPORT / EVALUATION}: damaged ({what}); train again, or remove it") from None
    make_folder(folder / REPORT, str(folder / REPORT))
    path = folder / REPORT / PAGE
    write_page(path, page)
    return path


def _page(run: RunRecord) -> str:
    kept = run.kept or {}
    gallery: Gallery | None = as_gallery(kept["pictures"]) if "pictures" in kept else None
    evaluation: Evaluation | None = evaluation_of(kept, gallery) if "confusion_matrix" in kept else None
    charts = run_charts(run)
    contents = {
        "summary": "Summary",
        **({"curves": "Curves"} if charts else {}),
        **({"evaluation": "Evaluation", "classes": "Classes", "confusion": "Confusion"} if evaluation else {}),
        **({"images": "Images"} if gallery else {}),
        "settings": "Configuration",
    }
    return render(
        "training.html",
        subject=run.folder.resolve().name,
        run=run,
        contents=list(contents.items()),
        charts=charts,
        evaluation=evaluation,
        evaluated_at=kept.get("step"),
        gallery=gallery,
        network=_network(run.config),
        versions=kept.get("versions", {}),
    )


def _network(config: Mapping[str, Any]) -> str:
    names = ("model", "backbone", "num_classes", "crop_size", "batch_size", "precision")
    words = {"num_classes": " classes", "crop_size": "crop ", "batch_size": "batch "}
    said = []
    for name in names:
        if (value := config.get(name)) is not None:
            word = words.get(name, "")
            said.append(f"{value}{word}" if word.startswith(" ") else f"{word}{value}")
    return ", ".join(said)
