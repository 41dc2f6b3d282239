"""JPEG files decoded on the GPU by nvJPEG, where it is there."""

from collections.abc import Sequence

import torch
from torch import Tensor

from . import extension
from .input.decode import decode_image
from .input.exif import PLAIN, exif_orientation


def gpu_decoder_missing(device: torch.device | None = None) -> str:
    """Why JPEG cannot be decoded on a GPU (default: the current one), or nothing."""
    native, reason = extension.cuda()
    if native is None:
        return f"the extension has no CUDA part ({reason})"
    if not torch.cuda.is_available():
        return "torch finds no CUDA GPU"
    with torch.cuda.device(device):
        return str(native.nvjpeg_missing())


def decode_jpegs(files: Sequence[bytes], device: torch.device) -> list[Tensor]:
    """JPEG files to RGB on ``device``: uint8 ``[H, W, 3]`` each, decoded there in one batch.

    nvJPEG's colours differ from the CPU's by a few levels, so training, whose batches must not depend
    on the machine, does not use it. Where nvJPEG is missing, or declines the batch (CMYK, say), or an
    image is turned by its EXIF orientation, the CPU decodes; :func:`gpu_decoder_missing` tells why.

    Raises:
        UserError: a file cannot be decoded; names its number.
    """
    is_plain = all(exif_orientation(data) == PLAIN for data in files)  # nvJPEG does not turn images
    if device.type == "cuda" and is_plain and not gpu_decoder_missing(device):
        native = extension.cuda()[0]
        assert native is not None
        try:
            with torch.cuda.device(device):
                sizes = native.jpeg_sizes_cuda(files)
                images = [torch.empty(*size, 3, dtype=torch.uint8, device=device) for size in sizes]
                stream = torch.cuda.current_stream(device).cuda_stream
                native.decode_jpegs_cuda(files, sizes, [image.data_ptr() for image in images], stream)
            return images
        except native.DecodeError:
            pass  # the CPU takes it, or says what is wrong and with which file
    return [torch.from_numpy(decode_image(data, f"file {i}")).to(device) for i, data in enumerate(files)]
