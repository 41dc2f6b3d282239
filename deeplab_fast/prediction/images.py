"""Images as a Python program has them: files, Pillow's, NumPy's or torch's, to one kind of array."""

import os
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from ..config.urls import is_url
from ..data.sources import read_bytes
from ..errors import UserError
from ..ops import Decoding, decode_image
from .remote_image import RemoteImage

Given: TypeAlias = str | os.PathLike[str] | Image.Image | NDArray[np.uint8] | Tensor

_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX")


def as_array(given: Given, where: str, decoding: Decoding) -> NDArray[np.uint8]:
    """Return an image as RGB, uint8 ``[H, W, 3]``; transparency is left out, as in files.

    Args:
        given: a path or a URL; a Pillow image of at most 8 bits a channel; uint8 ``[H, W, 3]`` of NumPy; or uint8 of
            torch, ``[3, H, W]`` or ``[H, W, 3]`` (where both could be meant, the first).
        where: the words an error begins with; a path or a URL is named instead.
        decoding: whether a file or a Pillow image is turned as its EXIF data say, and the most pixels there may be.

    Raises:
        UserError: of another kind, empty, too large, or a file that cannot be read, downloaded or decoded.
    """
    if isinstance(given, str) and is_url(given):
        remote = RemoteImage(given, decoding.max_pixels)
        return decode_image(remote.read_bytes(), str(remote), decoding)
    if isinstance(given, str | os.PathLike):
        return decode_image(read_bytes(Path(given)), os.fsdecode(given), decoding)
    if isinstance(given, Image.Image):
        return _of_pillow(given, where, decoding)
    if isinstance(given, Tensor):
        array = _of_tensor(given, where)
    elif isinstance(given, np.ndarray):
        array = given
    else:
        kinds = "a path, a URL, a Pillow image, a NumPy array or a torch tensor"
        raise UserError(f"{where}: of type {type(given).__name__}; expected {kinds}")
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        found = f"{array.dtype} {list(array.shape)}"
        raise UserError(f"{where}: {found}; expected uint8 [H, W, 3], values from 0 to 255, channels RGB")
    _check_size(array.shape[1], array.shape[0], where, decoding)
    return np.ascontiguousarray(array)


def _of_pillow(image: Image.Image, where: str, decoding: Decoding) -> NDArray[np.uint8]:
    if image.mode not in _MODES:
        raise UserError(f"{where}: Pillow image of mode {image.mode}; expected RGB, or one of {', '.join(_MODES)}")
    _check_size(*image.size, where, decoding)
    try:
        turned = ImageOps.exif_transpose(image) if decoding.apply_exif else image
        return np.array(turned.convert("RGBA" if image.mode == "PA" else "RGB").convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:  # a file that is opened, not yet read, and damaged
        raise UserError(f"{where}: cannot be decoded ({' '.join(str(error).split())})") from None


def _of_tensor(tensor: Tensor, where: str) -> NDArray[np.uint8]:
    if tensor.is_floating_point():
        raise UserError(
            f"{where}: {tensor.dtype} tensor; expected torch.uint8, values from 0 to 255, neither scaled nor normalised"
        )
    if tensor.dim() == 3 and tensor.shape[0] == 3:
        tensor = tensor.permute(1, 2, 0)
    return tensor.detach().cpu().numpy()


def _check_size(width: int, height: int, where: str, decoding: Decoding) -> None:
    if not width or not height:
        raise UserError(f"{where}: {width}x{height} pixels; expected at least one")
    if width * height > decoding.max_pixels:
        raise UserError(f"{where}: {width}x{height} pixels; expected at most {decoding.max_pixels} (max_pixels)")
