"""Pictures as files."""

import io
from pathlib import Path
from typing import Any

from PIL import Image


def save_image(image: Image.Image, path: Path, **options: Any) -> None:
    """Write a picture in the format that the name ends in; ``options`` are those of :meth:`PIL.Image.Image.save`.

    Pillow itself hands a JPEG to the system in pieces and does not ask whether all of a piece was written: on a disk
    that becomes full the file would end early, and nobody were told.

    Raises:
        OSError: the disk is full, or the like.
    """
    encoded = io.BytesIO()
    image.save(encoded, Image.registered_extensions()[path.suffix.lower()], **options)
    path.write_bytes(encoded.getbuffer())
