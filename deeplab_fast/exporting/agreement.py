"""The proof of an exported file: what it gives beside what the original gives, on images of several sizes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ..errors import UserError
from .network import ExportedNetwork

DIFFERENCE = 1e-4  # largest of a probability, in fp32
EQUAL = 0.9999  # least share of equal classes, in fp32


@dataclass
class Agreement:
    """Sums over the pixels that were compared; ``difference``: the largest of a probability."""

    images: int = 0
    pixels: int = 0
    equal: int = 0
    difference: float = 0.0
    only_classes: bool = False  # the file gives no probabilities

    @property
    def share(self) -> float:
        """Return the share of the pixels whose class is the same: 0 where there is none."""
        return self.equal / self.pixels if self.pixels else 0.0

    @property
    def is_exact(self) -> bool:
        """Tell whether it is that of the same network in fp32; a difference that is NaN is none."""
        return self.difference <= DIFFERENCE and self.share >= EQUAL

    def __str__(self) -> str:
        labels = f"labels agree on {self.share:.4%} of {self.pixels:,} pixels of {self.images} images"
        return labels if self.only_classes else f"probabilities agree within {self.difference:.1e}, {labels}"


@torch.inference_mode()
def compare(run: Callable[[Tensor], Tensor], network: ExportedNetwork, batches: Iterable[Tensor]) -> Agreement:
    """Compare a file with the network it was made of, which torch runs as it does in evaluation.

    Args:
        run: the file, a function of what ``network.given`` returns.
        network: the original.
        batches: images, uint8 ``[N, H, W, 3]``.
    """
    found = Agreement(only_classes=network.output_kind == "classes")
    for images in tqdm(batches, desc="compare", unit="batch", leave=False, disable=None):
        given = network.given(images)
        expected = network.model.predict((images.permute(0, 3, 1, 2).float() - network.mean) / network.std).softmax(1)
        actual = run(given)
        classes = actual
        if not found.only_classes:
            actual = actual.softmax(1) if network.output_kind == "logits" else actual
            worst = float((actual - expected).abs().max())
            found.difference = max(found.difference, worst) if worst == worst else float("inf")
            classes = actual.argmax(1)
        found.images += len(images)
        found.pixels += classes.numel()
        found.equal += int((classes == expected.argmax(1)).sum())
    return found


def refuse_difference(found: Agreement, path: Path) -> None:
    """Raise :class:`UserError` where a file in fp32 differs from the original."""
    if not found.is_exact:
        raise UserError(
            f"{path}: not written; {found}; expected {DIFFERENCE:.0e} at most, and the same class on {EQUAL:.2%}"
        )
