"""Pictures as files."""

import io
from pathlib import Path
from typing import Any

from PIL import Image


def save_image(image: Image.Image, path: Path, **options: Any) -> None:
    """Write a picture in the format that the name ends in, as :func:`encode_image` makes it.

    Pillow itself hands a JPEG to the system in pieces and does not ask whether all of a piece was written: on a disk
    that becomes full the file would end early, and nobody were told.

    Raises:
        OSError: the disk is full, or the like.
    """
    path.write_bytes(encode_image(image, path.suffix, **options))


def encode_image(image: Image.Image, suffix: str, **options: Any) -> bytes:
    """Make the bytes of a file with this suffix; ``options`` are those of :meth:`PIL.Image.Image.save`."""
    encoded = io.BytesIO()
    image.save(encoded, Image.registered_extensions()[suffix.lower()], **options)
    return encoded.getvalue()
