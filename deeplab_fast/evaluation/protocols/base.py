"""The interface of a protocol of evaluation: how images are seen, where truth is read, how scores become classes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...config import ImageConfig
from ...ops import DEFAULT_DECODING, Decoding

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Inputs:
    """The network's inputs of an image: decoding, normalisation (RGB, scale 0-255), arithmetic."""

    mean_rgb: tuple[float, ...]
    std_rgb: tuple[float, ...]
    precision: str = "fp32"
    decoding: Decoding = DEFAULT_DECODING

    @classmethod
    def of(cls, images: ImageConfig, precision: str) -> "Inputs":
        return cls(images.mean_rgb, images.std_rgb, precision, Decoding.of(images))


@dataclass(frozen=True)
class Machine:
    """The network that predicts, its device, whether kernels are fused, most images that go through it together."""

    model: nn.Module
    device: torch.device
    fused: str = "auto"
    at_once: int = 1


class EvaluationProtocol(ABC):
    """The way from an image to the classes that are compared with its truth."""

    name: ClassVar[str]
    memory_advice: ClassVar[str]  # what to do where one image is too large for a GPU

    @property
    @abstractmethod
    def decoding(self) -> Decoding:
        """The way in which image files are read."""

    @abstractmethod
    def see(self, image: Image) -> Any:
        """Return what the network is to see of an image, uint8 ``[H, W, 3]``; runs in the loader's threads.

        Raises:
            UserError: it has no such view.
        """

    def truth(self, label: Image) -> Image:
        """Return the truth that counts, uint8 ``[H', W']``, of a label ``[H, W]``: the label itself, unless resized."""
        return label

    @abstractmethod
    def classes(self, machine: Machine, seen: Sequence[Any], targets: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Return the class of each pixel of the images that were seen, at the (height, width) of their truths.

        Returns:
            uint8 ``[H', W']`` for each image, on the network's device. Does not wait for a GPU.
        """

    @abstractmethod
    def details(self) -> dict[str, Any]:
        """Return what the metrics file says of the protocol, beside its name: sizes, interpolations, averages."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """One line for the printed table."""

    @property
    @abstractmethod
    def name_parts(self) -> list[str]:
        """The words of the metrics file's name that are the protocol's; nothing for what is usual."""

    @property
    @abstractmethod
    def largest(self) -> str:
        """The largest image that goes through the network, in words."""


def stack(arrays: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """Join along a new first axis, on the host; for a GPU pinned: it copies from there while the host goes on.

    ``arrays`` of one shape ``[...]`` -> ``[len(arrays), ...]``.
    """
    dtype = torch.from_numpy(arrays[0]).dtype
    out = torch.empty(len(arrays), *arrays[0].shape, dtype=dtype, pin_memory=device.type == "cuda")
    np.stack(arrays, out=out.numpy())
    return out
