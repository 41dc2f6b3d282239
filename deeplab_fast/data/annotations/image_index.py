"""Images of a folder, found by the names that a labelling tool wrote down."""

import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deeplab_fast.data.folders import IMAGE_SUFFIXES, find_images
from deeplab_fast.data.lists import some_of
from deeplab_fast.errors import UserError

from .documents import shown
from .label_set import ImageLabel, LabelSet, Make

logger = logging.getLogger("deeplab_fast")


class ImageIndex:
    """The images below a folder, by their path there and by their last name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.is_dir():
            raise UserError(f"--image_dir={folder}: no such folder")
        self.files: Sequence[Path] = find_images(folder).files
        if not self.files:
            raise UserError(f"{folder}: no image; expected files ending in {', '.join(IMAGE_SUFFIXES)}")
        self._by_path = {_same(os.path.relpath(path, folder)): path for path in self.files}
        self._by_name: dict[str, list[Path]] = {}
        for path in self.files:
            self._by_name.setdefault(_same(path.name), []).append(path)

    def find(self, name: str, where: str) -> Path | None:
        """Return the image of a path below the folder, or else the one image of this last name; None: there is none.

        Raises:
            UserError: several have the name; begins with ``where``.
        """
        name = _same(name.replace("\\", "/")).lstrip("./")
        if found := self._by_path.get(name):
            return found
        named = self._by_name.get(name.rsplit("/", 1)[-1], [])
        if len(named) > 1:
            raise UserError(f"{where}: {name!r} may be {named[0]} or {named[1]}; expected one image of this name")
        return named[0] if named else None


def _same(name: str) -> str:
    """Return one spelling of a name: file systems and tools compose accents in their own ways."""
    return unicodedata.normalize("NFC", name)


@dataclass(frozen=True)
class Described:
    """An image that a file of annotations describes: its name there, (height, width), and how its label is made."""

    name: str
    size: tuple[int, int]
    make: Make


def labels_of(
    path: Path,
    images: ImageIndex,
    described: Sequence[Described],
    names: list[str],
    left_out: Counter[str],
) -> LabelSet:
    """Give the labels that the file ``path`` describes to the images; those not there are logged and ``left_out``.

    Raises:
        UserError: no image is there, or two labels are one image's.
    """
    labels: dict[Path, ImageLabel] = {}
    absent: list[str] = []
    for one in described:
        where = f"{path}: {shown(one.name)}"
        image = images.find(one.name, str(path))
        if image is None:
            absent.append(shown(one.name))
        elif image in labels:
            raise UserError(f"{where}: a second label of {image}; expected one")
        else:
            labels[image] = ImageLabel(image, where, one.make, one.size)
    if not labels:
        example = f", such as {absent[0]}," if absent else ""
        raise UserError(f"{path}: none of its {len(described):,} images{example} is in {images.folder} (--image_dir)")
    if absent:
        left_out["annotated image that is not there"] = len(absent)
        logger.warning("%s: %d images are not in %s: %s", path, len(absent), images.folder, some_of(absent))
    without = [image for image in images.files if image not in labels]
    return LabelSet(names, list(labels.values()), without, left_out)
