"""The compiled extension, as its bindings (``csrc/bindings``) take and give values; addresses are integers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

SAMPLE_BYTES: int

class DecodeError(ValueError): ...
class DeviceError(RuntimeError): ...

def augment_cuda(
    images: int,
    labels: int,
    samples: int,
    count: int,
    crop_size: int,
    bicubic: bool,
    ignore_label: int,
    mean: Sequence[float],
    std: Sequence[float],
    type: str,
    out_images: int,
    out_labels: int,
    extents: int,
    stream: int,
) -> None: ...
def augment_ragged(
    images: int,
    labels: int,
    samples: int,
    count: int,
    crop_size: int,
    bicubic: bool,
    ignore_label: int,
    out_images: int,
    out_labels: int,
    extents: int,
) -> None: ...
def build_info() -> dict[str, str]: ...
def conv1x1_cuda(
    type: str, a: int, weight: int, y: int, parts: int, rows: int, channels_in: int, channels_out: int, stream: int
) -> None: ...
def conv1x1_gradient_cuda(
    type: str,
    dy: int,
    weight: int,
    x: int,
    norm: Sequence[int],
    eps: float,
    added: int,
    activation: int,
    dz: int,
    parts: int,
    rows: int,
    channels_in: int,
    channels_out: int,
    stream: int,
) -> None: ...
def conv3x3_cuda(
    type: str,
    a: int,
    weight: int,
    y: int,
    parts: int,
    window: Sequence[int],
    pixel_major: bool,
    channels_in: int,
    channels_out: int,
    stream: int,
) -> None: ...
def conv3x3_gradient_cuda(
    type: str,
    dy: int,
    weight: int,
    x: int,
    norm: Sequence[int],
    eps: float,
    dz: int,
    parts: int,
    window: Sequence[int],
    pixel_major: bool,
    channels_in: int,
    channels_out: int,
    stream: int,
) -> None: ...
def count_pairs(
    labels: NDArray[Any], predictions: NDArray[Any], classes: int, ignore_label: int, counts: NDArray[np.int64]
) -> Any: ...
def count_pairs_cuda(
    labels: int,
    label_type: str,
    predictions: int,
    prediction_type: str,
    pixels: int,
    classes: int,
    ignore_label: int,
    counts: int,
    wrong: int,
    stream: int,
) -> None: ...
def crc32(data: bytes, portable: bool = ...) -> int: ...
def cuda_missing() -> str: ...
def decode_image(
    data: Buffer, window: Sequence[int] | None = ..., apply_exif: bool = ..., max_pixels: int = ...
) -> NDArray[np.uint8]: ...
def decode_label(data: Buffer, window: Sequence[int] | None = ..., max_pixels: int = ...) -> NDArray[np.uint8]: ...
def gemm_missing() -> str: ...
def image_size(data: Buffer, apply_exif: bool = ..., max_pixels: int = ...) -> tuple[Any, ...]: ...
def limit_vector_extension(limit: str) -> None: ...
def normalise(
    images: NDArray[np.uint8],
    extents: NDArray[np.int32],
    mean: Sequence[float],
    std: Sequence[float],
    out: NDArray[np.float32],
) -> None: ...
def prefer_large_pages(address: int, bytes: int) -> None: ...
def resample_image(
    image: NDArray[np.uint8], size: Sequence[int], window: Sequence[int], bicubic: bool
) -> NDArray[np.uint8]: ...
def resample_label(label: NDArray[np.uint8], size: Sequence[int], window: Sequence[int]) -> NDArray[np.uint8]: ...
def upsample_argmax(
    scores: list[NDArray[np.float32]],
    sizes: Sequence[int],
    extents: list[NDArray[np.int32]],
    targets: NDArray[np.int32],
    align_corners: bool,
    threads: int,
    out: NDArray[np.uint8],
) -> None: ...
def upsample_ce(
    logits: NDArray[np.float32],
    labels: NDArray[Any],
    class_weights: NDArray[np.float32] | None,
    ignore_label: int,
    smoothing: float,
    align_corners: bool,
    threads: int,
    gradient: NDArray[np.float32],
) -> tuple[Any, ...]: ...
def upsample_ce_per_pixel(
    logits: NDArray[np.float32],
    labels: NDArray[Any],
    ignore_label: int,
    align_corners: bool,
    threads: int,
    losses: NDArray[np.float32],
) -> tuple[Any, ...]: ...
def vector_extension() -> str: ...
def write_samples(samples: int, offsets: NDArray[np.int64]) -> None: ...

class Loader:
    """Threads that take encoded samples to batches."""

    def __init__(
        self,
        files: Sequence[str],
        stamps: Sequence[tuple[int, int]],
        crop_size: int,
        min_scale: float,
        max_scale: float,
        bicubic: bool,
        ignore_label: int,
        classes: int,
        threads: int,
        apply_exif: bool,
        max_pixels: int,
    ) -> None: ...
    def submit(
        self,
        extracts: NDArray[np.int64],
        draws: NDArray[np.float64],
        colours: NDArray[np.int32],
        places: Sequence[int],
        images: int,
        labels: int,
        extents: int,
        samples: int,
        decoded: Sequence[NDArray[np.uint8]],
        memory: object,
    ) -> int: ...
    def done(self, ticket: int) -> bool: ...
    def wait(self, ticket: int, seconds: float) -> Any: ...
    def spent(self) -> tuple[float, float, float, float]: ...
