"""Training samples as torchvision's segmentation reference makes them: Pillow images through its presets."""

import io
import random
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from deeplab_fast.config import TrainConfig
from deeplab_fast.data.sources import Source
from deeplab_fast.ops import decode_label

from .network import import_torchvision


def base_size(crop_size: int) -> int:
    """Return the side that the reference's scales multiply, as 520 is for its crops of 480."""
    return round(crop_size * 520 / 480)


class ReferenceSamples(Dataset[tuple[Tensor, Tensor]]):
    """Samples of a source: image fp32 ``[3, S, S]``, normalised, and label int64 ``[S, S]``.

    The shorter side is resized to 0.5 to 2 times :func:`base_size` (bilinear, labels nearest), both are flipped with
    p = 0.5, padded with 0 and the ignore label, and cropped at random. Draws are the worker's own.
    """

    def __init__(self, source: Source, config: TrainConfig) -> None:
        import_torchvision()
        self.source, self.crop_size, self.ignore_label = source, config.crop_size, config.ignore_label
        self.turns = config.exif == "apply"
        base = base_size(config.crop_size)
        self.sizes = int(0.5 * base), int(2.0 * base)
        self.mean = [value / 255 for value in config.mean_rgb]
        self.std = [value / 255 for value in config.std_rgb]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        from torchvision.transforms import RandomCrop
        from torchvision.transforms import functional as F
        from torchvision.transforms.functional import InterpolationMode

        image, label = self._open(index)
        size = random.randint(*self.sizes)
        image = F.resize(image, [size], antialias=True)
        label = F.resize(label, [size], interpolation=InterpolationMode.NEAREST)
        if random.random() < 0.5:
            image, label = F.hflip(image), F.hflip(label)
        image, label = self._padded(image, 0), self._padded(label, self.ignore_label)
        place = RandomCrop.get_params(image, (self.crop_size, self.crop_size))
        image, label = F.crop(image, *place), F.crop(label, *place)
        pixels = F.convert_image_dtype(F.pil_to_tensor(image), torch.float)
        return F.normalize(pixels, self.mean, self.std), F.pil_to_tensor(label)[0].long()

    def _open(self, index: int) -> tuple[Any, Any]:
        sample = self.source.read(index)
        image: Image.Image = Image.open(io.BytesIO(sample.image))
        if self.turns:
            ImageOps.exif_transpose(image, in_place=True)
        return image.convert("RGB"), Image.fromarray(decode_label(sample.label, sample.label_where))

    def _padded(self, image: Any, fill: int) -> Any:
        from torchvision.transforms import functional as F

        width, height = image.size
        missing = max(0, self.crop_size - width), max(0, self.crop_size - height)
        return F.pad(image, [0, 0, *missing], fill=fill) if any(missing) else image
