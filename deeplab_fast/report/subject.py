"""A network at work on labelled images: what every prediction for a page needs."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from ..data.pairs import Image, read_pair
from ..data.sources import Source
from ..evaluation.protocol import Protocol, segment_images
from ..evaluation.windows import window_classes


@dataclass(frozen=True)
class Subject:
    """A network, the labelled images that it is shown, and how it sees them; ``names`` are the classes'."""

    model: torch.nn.Module
    source: Source
    protocol: Protocol
    device: torch.device
    names: Sequence[str]
    ignore_label: int
    fused: str = "auto"

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Put the network into evaluation mode inside the block."""
        was_training = self.model.training
        self.model.eval()
        try:
            yield
        finally:
            self.model.train(was_training)

    def sample(self, index: int) -> tuple[Image, Image]:
        """Read image uint8 ``[H, W, 3]`` and truth uint8 ``[H, W]``.

        Raises:
            UserError: the sample cannot be used; names its file.
        """
        self.source.require((index,))
        return read_pair(self.source, index, len(self.names), self.ignore_label, self.protocol.decoding)

    def predict(self, image: Image) -> Image:
        """Predict the classes, uint8 ``[H, W]``, of an image, uint8 ``[H, W, 3]``, by the protocol."""
        if self.protocol.is_windowed(image.shape[:2]):
            return window_classes(self.model, image, self.protocol, self.device, 1).cpu().numpy()
        return segment_images(self.model, [image], self.protocol, self.device, self.fused)[0]
