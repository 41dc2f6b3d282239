"""Pictures of a sample: the image, the truth, the prediction, and where they differ."""

import base64
import io
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import UserError
from ..evaluation.palette import palette
from .ranking import confusion_of, image_miou
from .subject import Subject

logger = logging.getLogger("deeplab_fast")

SIDE = 400  # pixels of the longer side
IGNORED = (214, 214, 214)  # no colour of the palette
WRONG = (255, 86, 34)
_CORRECT = 0.42  # of the brightness of what is not wrong


@dataclass(frozen=True)
class Picture:
    """A sample as data URIs; ``miou`` and ``accuracy`` are its own scores, ``classes`` what truth or prediction holds.

    ``width`` and ``height`` are the pictures' in pixels.
    """

    key: str
    miou: float
    accuracy: float
    classes: tuple[int, ...]
    width: int
    height: int
    image: str
    truth: str
    prediction: str
    error: str


def picture_of(subject: Subject, index: int) -> Picture:
    """Read and predict a sample and draw its pictures.

    Raises:
        UserError: it cannot be read; names its file.
    """
    image, truth = subject.sample(index)
    prediction = subject.predict(image, truth.shape)
    confusion = confusion_of(subject, truth, prediction)
    share = min(1.0, SIDE / max(truth.shape))
    size = max(1, round(share * truth.shape[1])), max(1, round(share * truth.shape[0]))
    small = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    small_truth, small_prediction = (
        np.asarray(Image.fromarray(m).resize(size, Image.Resampling.NEAREST)) for m in (truth, prediction)
    )
    present = np.flatnonzero(confusion.sum(0) + confusion.sum(1))
    return Picture(
        subject.source.key(index),
        image_miou(confusion),
        float(np.diag(confusion).sum() / max(1, confusion.sum())),
        tuple(present.tolist()),
        size[0],
        size[1],
        _jpeg(small),
        _indexed(small_truth, subject.ignore_label),
        _indexed(small_prediction, subject.ignore_label),
        _jpeg(error_picture(small, small_truth, small_prediction, subject.ignore_label)),
    )


def draw_pictures(subject: Subject, indexes: Iterable[int]) -> list[Picture]:
    """Draw the samples ``indexes``; one that cannot be read is left out, which is said."""
    pictures = []
    with subject.at_work():
        for index in indexes:
            try:
                pictures.append(picture_of(subject, index))
            except UserError as error:
                logger.warning("report: not shown: %s", error)
    return pictures


def error_picture(
    image: Image.Image, truth: NDArray[np.uint8], prediction: NDArray[np.uint8], ignore_label: int
) -> Image.Image:
    """Draw where two label maps ``[H, W]`` differ over the darkened image of their size; ignored pixels are grey."""
    grey = np.asarray(image.convert("L"), np.float32) * _CORRECT
    pixels = np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)
    pixels[truth != prediction] = WRONG
    pixels[truth == ignore_label] = IGNORED
    return Image.fromarray(pixels)


def class_colours(ignore_label: int) -> NDArray[np.uint8]:
    """Return the colours of label values: uint8 ``[256, 3]``."""
    colours = palette()
    colours[ignore_label] = IGNORED
    return colours


def css_colours(classes: int, ignore_label: int) -> tuple[str, ...]:
    """Return the classes' colours as CSS writes them."""
    return tuple("#" + bytes(colour.tolist()).hex() for colour in class_colours(ignore_label)[:classes])


def as_picture(stored: Mapping[str, Any]) -> Picture:
    """Return the picture that a JSON file holds, or raise :class:`ValueError` where it is none."""
    try:
        picture = Picture(**{**stored, "classes": tuple(int(c) for c in stored["classes"])})
        uris = (picture.image, picture.truth, picture.prediction, picture.error)
        if not all(uri.startswith("data:image/") for uri in uris):
            raise ValueError("a picture is no data URI")
        float(picture.miou), float(picture.accuracy), int(picture.width), int(picture.height)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(str(error)) from None
    return picture


def _jpeg(image: Image.Image) -> str:
    return _uri(image, "jpeg", quality=82, optimize=True)


def _indexed(classes: NDArray[np.uint8], ignore_label: int) -> str:
    picture = Image.fromarray(classes)
    picture.putpalette(class_colours(ignore_label).tobytes())
    return _uri(picture, "png", optimize=True)


def _uri(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
