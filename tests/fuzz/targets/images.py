"""Image files that Python decodes, and their EXIF orientation: BMP, TIFF and WebP, JPEG and PNG by the reference."""

import io
import warnings

from PIL import Image

from deeplab_fast.errors import UserError
from deeplab_fast.ops.input.decode_reference import (
    decode_image_reference,
    decode_label_reference,
    decode_mask,
    image_size_reference,
)
from deeplab_fast.ops.input.exif import exif_orientation, turned, without_orientation
from tests.fuzz.image_seeds import jpeg, noise, png

from .target import DECODING, Target, plain

ORIENTATION = 0x0112


def read(data, _):
    """The size that the header gives is the pixels' own, and a file without its orientation has none."""
    orientation = exif_orientation(data)
    assert 1 <= orientation <= 8
    if data[:2] in (b"II", b"MM"):
        assert exif_orientation(without_orientation(data)) == 1
    refused = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for decode in (_image, decode_label_reference, decode_mask):
            try:
                decode(data, "x", DECODING)
            except UserError as error:
                refused.append(error)
    if refused:
        raise refused[0]


def _image(data, where, decoding):
    size = image_size_reference(data, where, decoding)
    assert size[0] * size[1] <= decoding.max_pixels
    stored = decode_image_reference(data, where, decoding._replace(apply_exif=False))
    image = decode_image_reference(data, where, decoding)
    assert image.shape == (*size, 3)
    assert (turned(stored, exif_orientation(data)) == image).all()


def saved(mode, kind, orientation=1, size=(9, 7), **options):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    buffer = io.BytesIO()
    Image.fromarray(noise(*size, 1)).convert(mode).save(buffer, kind, exif=exif, **options)
    return buffer.getvalue()


def seeds():
    for mode in ("1", "L", "P", "RGB"):
        yield f"bmp-{mode}", saved(mode, "BMP")
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"):
        yield f"tiff-{mode.replace(';', '')}", saved(mode, "TIFF", orientation=6)
    for compression in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        yield f"tiff-{compression}", saved("RGB", "TIFF", compression=compression)
    pages = [Image.fromarray(noise(9, 7, 2))]
    yield "tiff-pages", saved("RGB", "TIFF", save_all=True, append_images=pages)
    yield "webp", saved("RGB", "WEBP", orientation=8)
    yield "webp-lossless", saved("RGBA", "WEBP", lossless=True)
    yield "webp-animated", saved("RGB", "WEBP", save_all=True, append_images=pages)
    yield "jpeg", jpeg("RGB", 1, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x05\0\0")
    yield "png", png(3, 4)


TARGET = Target("images", read, seeds, plain, cpu_seconds=4, megabytes=64)
