"""Other ways from encoded bytes to a crop: the pipelines that our loader is measured beside.

Each decodes image and label, scales both by U(0.5, 2), pads, crops 513 x 513 and flips with p = 1/2, in
one process with one thread. ``normalise`` says whether the pipeline ends in a normalised float image in
NCHW, as its users run it, or in the uint8 crop that a device could normalise.
"""

import io
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from ..peers import import_torchvision

CROP, LOW, HIGH, IGNORE = 513, 0.5, 2.0, 255
MEAN_RGB = (123.675, 116.28, 103.53)
STD_RGB = (58.395, 57.12, 57.375)

Pipeline = Callable[[bytes, bytes], tuple[Any, Any]]


def _decode_opencv(image: bytes, label: bytes) -> tuple[np.ndarray, np.ndarray]:
    """BGR and class indexes; labels must be grey PNG, for OpenCV turns a palette into colours."""
    pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
    classes = cv2.imdecode(np.frombuffer(label, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert pixels is not None
    assert classes is not None
    return pixels, classes


def recipe(normalise: bool, seed: int) -> Pipeline:
    """The MindSpore recipe's own: OpenCV, bicubic; it normalises the whole resized image before it crops."""
    random = np.random.default_rng(seed)
    mean, std = np.array(MEAN_RGB[::-1], np.float32), np.array(STD_RGB[::-1], np.float32)

    def run(image_bytes: bytes, label_bytes: bytes) -> tuple[np.ndarray, np.ndarray]:
        image, label = _decode_opencv(image_bytes, label_bytes)
        scale = random.uniform(LOW, HIGH)
        height, width = int(scale * image.shape[0]), int(scale * image.shape[1])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
        label = cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST)
        if normalise:
            image = (image - mean) / std
        down, right = max(height, CROP) - height, max(width, CROP) - width
        if down or right:
            image = cv2.copyMakeBorder(image, 0, down, 0, right, cv2.BORDER_CONSTANT, value=0)
            label = cv2.copyMakeBorder(label, 0, down, 0, right, cv2.BORDER_CONSTANT, value=IGNORE)
        top = random.integers(0, image.shape[0] - CROP + 1)
        left = random.integers(0, image.shape[1] - CROP + 1)
        image, label = image[top : top + CROP, left : left + CROP], label[top : top + CROP, left : left + CROP]
        if random.random() < 0.5:
            image, label = image[:, ::-1], label[:, ::-1]
        if normalise:
            image = image.transpose(2, 0, 1)
        return image.copy(), label.copy()

    return run


def albumentations(normalise: bool, seed: int) -> Pipeline:
    """albumentations over OpenCV, bilinear."""
    import albumentations as A

    steps: list[Any] = [
        A.RandomScale((LOW - 1, HIGH - 1), interpolation=cv2.INTER_LINEAR, p=1),
        A.PadIfNeeded(CROP, CROP, border_mode=cv2.BORDER_CONSTANT, fill=0, fill_mask=IGNORE, position="top_left"),
        A.RandomCrop(CROP, CROP),
        A.HorizontalFlip(p=0.5),
    ]
    if normalise:
        steps.append(A.Normalize(mean=MEAN_RGB[::-1], std=STD_RGB[::-1], max_pixel_value=1.0))
    transform = A.Compose(steps, seed=seed)

    def run(image_bytes: bytes, label_bytes: bytes) -> tuple[np.ndarray, np.ndarray]:
        image, label = _decode_opencv(image_bytes, label_bytes)
        done = transform(image=image, mask=label)
        crop = done["image"].transpose(2, 0, 1) if normalise else done["image"]
        return np.ascontiguousarray(crop), done["mask"]

    return run


def torchvision_v2(normalise: bool, seed: int, backend: str = "pil") -> Pipeline:
    """torchvision's transforms v2 after Pillow, bilinear with antialiasing; on Pillow images or on tensors."""
    import_torchvision()
    from torchvision.transforms import v2
    from torchvision.transforms.v2 import functional as F

    random = np.random.default_rng(seed)

    def run(image_bytes: bytes, label_bytes: bytes) -> tuple[torch.Tensor, torch.Tensor]:
        image: Any = Image.open(io.BytesIO(image_bytes)).convert("RGB")
        label: Any = Image.open(io.BytesIO(label_bytes))
        if backend == "tensor":
            image, label = F.pil_to_tensor(image), F.pil_to_tensor(label)
        width, height = F.get_size(image)[::-1]
        scale = random.uniform(LOW, HIGH)
        size = [int(scale * height), int(scale * width)]
        image = F.resize(image, size, v2.InterpolationMode.BILINEAR, antialias=True)
        label = F.resize(label, size, v2.InterpolationMode.NEAREST)
        right, down = max(0, CROP - size[1]), max(0, CROP - size[0])
        if right or down:
            image = F.pad(image, [0, 0, right, down], fill=0)
            label = F.pad(label, [0, 0, right, down], fill=IGNORE)
        top = int(random.integers(0, max(size[0], CROP) - CROP + 1))
        left = int(random.integers(0, max(size[1], CROP) - CROP + 1))
        image, label = F.crop(image, top, left, CROP, CROP), F.crop(label, top, left, CROP, CROP)
        if random.random() < 0.5:
            image, label = F.horizontal_flip(image), F.horizontal_flip(label)
        image = image if backend == "tensor" else F.pil_to_tensor(image)
        label = label if backend == "tensor" else F.pil_to_tensor(label)
        if normalise:
            image = F.normalize(F.to_dtype(image, torch.float32), list(MEAN_RGB), list(STD_RGB))
        return image.contiguous(), label.contiguous()

    return run


def decode_only(normalise: bool, seed: int) -> Pipeline:
    """OpenCV's decoding and nothing else: the floor of everything that uses it."""
    return _decode_opencv


PEERS: dict[str, Callable[[bool, int], Pipeline]] = {
    "recipe (OpenCV, bicubic)": recipe,
    "torchvision v2, Pillow images": torchvision_v2,
    "torchvision v2, tensors": lambda normalise, seed: torchvision_v2(normalise, seed, "tensor"),
    "albumentations (OpenCV, bilinear)": albumentations,
    "OpenCV decoding alone": decode_only,
}
