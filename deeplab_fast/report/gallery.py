"""The worst and best images of an evaluation: chosen, drawn, and kept in a JSON file."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .pictures import Picture, as_picture, css_colours, draw_pictures
from .ranking import worst_and_best
from .subject import Subject

SHOWN = 6  # at each end


@dataclass(frozen=True)
class Gallery:
    """Pictures of the worst images, the worst first, and of the best; ``scored`` of ``total`` images were compared.

    ``names`` are the classes'; ``weights`` the words that name the network's weights, none where the page does.
    """

    worst: tuple[Picture, ...]
    best: tuple[Picture, ...]
    scored: int
    total: int
    names: tuple[str, ...]
    ignore_label: int
    weights: str = ""

    @property
    def colours(self) -> tuple[str, ...]:
        """Colours of the classes."""
        return css_colours(len(self.names), self.ignore_label)


def gallery_of(subject: Subject, per_image: Mapping[int, float], weights: str = "") -> Gallery:
    """Choose and draw the worst and best images.

    ``per_image``: the mIoU of images by their index.
    """
    chosen = worst_and_best(per_image, SHOWN)
    worst, best = (tuple(draw_pictures(subject, indexes)) for indexes in chosen)
    names, ignored = tuple(subject.names), subject.ignore_label
    return Gallery(worst, best, len(per_image), len(subject.source), names, ignored, weights)


def as_record(gallery: Gallery) -> dict[str, Any]:
    """Return what a JSON file holds of a gallery."""
    return dataclasses.asdict(gallery)


def as_gallery(stored: Mapping[str, Any]) -> Gallery:
    """Return the gallery that a JSON file holds, or raise :class:`ValueError` where it is none."""
    try:
        worst, best = (tuple(as_picture(one) for one in stored[end]) for end in ("worst", "best"))
        names = tuple(str(name) for name in stored["names"])
        counts = int(stored["scored"]), int(stored["total"])
        gallery = Gallery(worst, best, *counts, names, int(stored["ignore_label"]), str(stored["weights"]))
    except (TypeError, KeyError) as error:
        raise ValueError(str(error)) from None
    if any(not 0 <= c < len(names) for picture in (*worst, *best) for c in picture.classes):
        raise ValueError("a picture shows a class that has no name")
    return gallery
