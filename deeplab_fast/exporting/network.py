"""The network as an exported file holds it: from images, normalised or not, to logits, probabilities or classes."""

import importlib
import operator
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..config import ExportConfig, ImageConfig
from ..config.export import SMALLEST_SIDE
from ..model import DeepLabV3


class ExportedNetwork(nn.Module):
    """The network with its upsampling, and with normalisation and decision where they are asked for.

    Takes the images of ``input_kind`` (``[N, 3, H, W]``, or uint8 ``[N, H, W, 3]``); gives fp32 ``[N, C, H, W]``, or
    uint8 ``[N, H, W]`` where ``output_kind`` is ``classes``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: DeepLabV3, images: ImageConfig, input_kind: str, output_kind: str) -> None:
        super().__init__()
        self.model, self.input_kind, self.output_kind = model, input_kind, output_kind
        self.register_buffer("mean", torch.tensor(images.mean_rgb).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(images.std_rgb).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Return what ``output_kind`` says of images: fp32 ``[N, C, H, W]``, or uint8 ``[N, H, W]``."""
        x = image.permute(0, 3, 1, 2).float() if self.input_kind == "uint8" else image
        if self.input_kind != "normalised":
            x = (x - self.mean) / self.std
        logits = self.model.predict(x)
        if self.output_kind == "probabilities":
            return logits.softmax(1)
        return logits.argmax(1).to(torch.uint8) if self.output_kind == "classes" else logits

    def given(self, images: Tensor) -> Tensor:
        """Return images, uint8 ``[N, H, W, 3]``, as this network takes them."""
        if self.input_kind == "uint8":
            return images
        x = images.permute(0, 3, 1, 2).float().contiguous()
        return x if self.input_kind == "rgb" else (x - self.mean) / self.std

    def shown(self, normalised: Tensor) -> Tensor:
        """Return normalised images, fp32 ``[N, 3, H, W]``, as this network takes them: what :meth:`given` undoes."""
        if self.input_kind == "normalised":
            return normalised
        x = normalised * self.std + self.mean
        return x.permute(0, 2, 3, 1).round().clamp(0, 255).to(torch.uint8) if self.input_kind == "uint8" else x


def free_axes(config: ExportConfig) -> dict[str, int]:
    """Return the axes of the input whose length is left open, by name."""
    first = 1 if config.input_kind == "uint8" else 2
    sides = {} if config.size else {"height": first, "width": first + 1}
    return sides if config.batch_size else {"batch": 0, **sides}


def trace(network: ExportedNetwork, config: ExportConfig) -> torch.export.ExportedProgram:
    """Export the network to torch's program, for images of any number and size but what ``config`` fixes."""
    side = config.size or config.crop_size
    example = network.given(torch.zeros(config.batch_size or 2, side, side, 3, dtype=torch.uint8))
    smallest = {"batch": 1, "height": SMALLEST_SIDE, "width": SMALLEST_SIDE}
    dims = {axis: torch.export.Dim(name, min=smallest[name]) for name, axis in free_axes(config).items()}
    with torch.no_grad(), _floored_pooling(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(network.eval(), (example,), dynamic_shapes=(dims,))


@contextmanager
def _floored_pooling() -> Iterator[None]:
    """Let the size of a pooled map be ``x // y`` while a network is traced, as it is in torch 2.13.

    torch 2.11 corrects that quotient by its remainder, which Python's has no need of: asking for it would bind an open
    height or width to those of one remainder.
    """
    registrations: Any = importlib.import_module("torch._meta_registrations")
    theirs = getattr(registrations, "div_rtn", None)
    if theirs is None:
        yield
        return
    registrations.div_rtn = operator.floordiv
    try:
        yield
    finally:
        registrations.div_rtn = theirs
