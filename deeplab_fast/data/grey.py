"""Labels of other formats made into grey PNG files, again where their source changed."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from deeplab_fast.errors import UserError
from deeplab_fast.ops import decode_label
from deeplab_fast.storage.files import make_folder
from deeplab_fast.storage.image_files import encode_image

from .lists import some_of
from .sources import read_bytes
from .written import Written, digest

logger = logging.getLogger("deeplab_fast")

Label = NDArray[np.uint8]
Reader = Callable[[bytes, str], Label]


def convert(files: Sequence[tuple[Path, Path]], read: Reader, description: str, written: Written) -> None:
    """Write each source label, ``read`` from its bytes, as a grey PNG.

    A target that is there as we wrote it is made again where its source has other content than then. Any other target
    is the user's and stays, unless it is empty. Logs both.

    Raises:
        UserError: a source cannot be read, or a target cannot be written.
    """
    renewed, kept = [], []
    for source, target in tqdm(files, desc=description, unit="file", disable=None):
        data = read_bytes(source)
        made_from = digest(data)
        there = target.is_file()
        was_made_from = written.source(target)
        if was_made_from == made_from:
            continue
        label = read(data, str(source))
        if there and was_made_from is None:
            if _holds(target, label):
                written.note(target, read_bytes(target), made_from)
                continue
            if target.stat().st_size:
                kept.append(target)
                continue
        if there:
            renewed.append(target)
        make_folder(target.parent, str(target.parent))
        written.write(target, encode_image(Image.fromarray(label), target.suffix), made_from, durable=False)
    if renewed:
        logger.info("%s: %d made again, whose source changed: %s", description, len(renewed), some_of(renewed))
    if kept:
        logger.warning(
            "%s: %d kept that differ from their source and that this program did not write; delete them to have them"
            " made: %s",
            description,
            len(kept),
            some_of(kept),
        )


def _holds(target: Path, label: Label) -> bool:
    try:
        return np.array_equal(decode_label(read_bytes(target), str(target)), label)
    except UserError:
        return False
