"""A trained network on its device, and the way of images through it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..config import SegmenterConfig, validate_image, validate_protocol
from ..data.classes import generic_names
from ..evaluation.inference import load_trained
from ..evaluation.protocol import Protocol
from ..evaluation.scored import ScoredImage, score_images
from ..model.layers import use_fused
from ..ops import Folds, keep_folds
from ..runtime import prepare_backends, to_channels_last

C = TypeVar("C", bound=SegmenterConfig)


@dataclass(frozen=True, eq=False)
class Network:
    """A model in evaluation mode on ``device``; ``names`` has one for each class."""

    model: torch.nn.Module
    device: torch.device
    protocol: Protocol
    names: tuple[str, ...]
    fused: str
    at_once: int  # windows of an image that go through it together
    keep_windows: bool = True  # their scores, of which probabilities are made
    folds: Folds = field(default_factory=Folds)  # the weights do not change any more

    def score(self, images: Sequence[NDArray[np.uint8]]) -> list[tuple[NDArray[np.uint8], ScoredImage]]:
        """Return the classes, uint8 ``[H, W]``, and the scores of images, uint8 ``[H, W, 3]``, that form one batch."""
        how = (self.protocol, self.device, self.fused, self.at_once, self.keep_windows)
        with keep_folds(self.folds):
            return score_images(self.model, images, *how)


def open_network(config_class: type[C], flags: dict[str, Any], device: torch.device) -> tuple[C, Network]:
    """Load the checkpoint that ``flags`` name onto ``device``; returns the configuration with what the file stores.

    ``flags`` are checked, and their precision is a device's, not auto.

    Raises:
        UserError: as :func:`deeplab_fast.evaluation.inference.load_trained`.
    """
    config, model, names = load_trained(config_class, flags)
    validate_image(config)
    validate_protocol(config)
    prepare_backends(device)
    network = to_channels_last(model, device)
    use_fused(network, config.fused)
    protocol = Protocol.of(config, config.precision, config.scales, config.flip).in_windows(config)
    known = names or tuple(generic_names(config.num_classes))
    return config, Network(network, device, protocol, known, config.fused, config.batch_size)
