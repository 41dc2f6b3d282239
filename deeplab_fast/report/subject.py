"""A network at work on labelled images: what every prediction for a page needs."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from ..data.pairs import Image, read_pair
from ..data.sources import Source
from ..evaluation.protocols import EvaluationProtocol, Machine


@dataclass(frozen=True)
class Subject:
    """A network, the labelled images that it is shown, and how it sees them; ``names`` are the classes'."""

    model: torch.nn.Module
    source: Source
    protocol: EvaluationProtocol
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
        """Read image uint8 ``[H, W, 3]`` and truth uint8 ``[H', W']``, of another size where the protocol resizes it.

        Raises:
            UserError: the sample cannot be used; names its file.
        """
        self.source.require((index,))
        image, label = read_pair(self.source, index, len(self.names), self.ignore_label, self.protocol.decoding)
        return image, self.protocol.truth(label)

    def predict(self, image: Image, size: tuple[int, int]) -> Image:
        """Predict by the protocol the classes of an image, uint8 ``[H, W, 3]``, at its truth's ``size`` ``(H', W')``.

        Returns:
            uint8 ``[H', W']``.
        """
        machine = Machine(self.model, self.device, self.fused)
        return self.protocol.classes(machine, [self.protocol.see(image)], [size])[0].cpu().numpy()
