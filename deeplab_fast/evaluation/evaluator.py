"""The recipe's evaluation: one confusion matrix over the set, at the images' original sizes.

How an image becomes classes is ``protocol.py``; the truth is never resized.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..data.pairs import read_pair
from ..data.sources import Source, as_they_come
from ..data.threads import ordered_map
from ..distributed import World
from ..errors import UserError
from ..ops import ConfusionCounter
from .metrics import Scores
from .protocol import Protocol, View, predictions, view_of
from .windows import window_classes

logger = logging.getLogger("deeplab_fast")

T = TypeVar("T")


_Views = list[tuple[np.ndarray, np.ndarray]]
_Loaded = tuple[_Views | np.ndarray, np.ndarray]  # an image to be seen in windows is as it is


def _load(source: Source, protocol: Protocol, num_classes: int, ignore_label: int, index: int) -> _Loaded | UserError:
    """Load every scale of image ``index``, or the image if it is for windows, and its truth; or return why not."""
    try:
        image, label = read_pair(source, index, num_classes, ignore_label, protocol.decoding)
    except UserError as error:
        return error
    if protocol.is_windowed(image.shape[:2]):
        return image, label
    return [view_of(image, size) for size in protocol.sizes], label


def _stack(arrays: Sequence[np.ndarray], pinned: bool) -> Tensor:
    """Stack along a new first axis; pinned: where a GPU copies from while the host goes on."""
    dtype = torch.from_numpy(arrays[0]).dtype
    out = torch.empty(len(arrays), *arrays[0].shape, dtype=dtype, pin_memory=pinned)
    np.stack(arrays, out=out.numpy())
    return out


class _Batches:
    """A predictor of batches, with fewer images at a time once the GPU's memory was not enough for as many."""

    def __init__(
        self, model: torch.nn.Module, protocol: Protocol, device: torch.device, batch_size: int, fused: str
    ) -> None:
        self.model, self.protocol, self.device, self.fused = model, protocol, device, fused
        self.images_at_once = batch_size

    def predict(self, views: Sequence[View], targets: Sequence[tuple[int, int]]) -> list[Tensor]:
        return self._fitting(
            lambda at_once: predictions(self.model, views, targets, self.protocol, self.device, self.fused, at_once)
        )

    def predict_in_windows(self, image: np.ndarray) -> Tensor:
        return self._fitting(lambda at_once: window_classes(self.model, image, self.protocol, self.device, at_once))

    def _fitting(self, work: Callable[[int], T]) -> T:
        while True:
            try:
                return work(self.images_at_once)
            except torch.OutOfMemoryError:
                if self.images_at_once == 1:
                    raise UserError(
                        f"evaluation: the memory of {self.device} is not enough for one image of"
                        f" {max(self.protocol.sizes)} x {max(self.protocol.sizes)} pixels; expected a smaller"
                        " --crop_size, fewer scales or --precision=bf16"
                    ) from None
            # Not within the handler: the error holds the frames, and they what was allocated.
            self.images_at_once //= 2
            logger.warning("evaluation: not enough memory; goes on with %d images at a time", self.images_at_once)
            torch.cuda.empty_cache()


def evaluate(
    model: torch.nn.Module,
    source: Source,
    protocol: Protocol,
    num_classes: int,
    ignore_label: int,
    device: torch.device,
    batch_size: int,
    num_workers: int = 0,
    world: World | None = None,
    fused: str = "auto",
    skip_bad: bool = False,
) -> Scores:
    """Score ``model`` on every sample of ``source``, each counted once over all processes.

    ``skip_bad``: a sample that cannot be used is left out, named, and listed in the scores; else it is an error.

    A pass through the network has no more pixels than ``batch_size`` images of the crop size, at any scale, and fewer
    where the GPU's memory is not enough, which is said. Nothing waits for a GPU but the end.

    The model's training mode is restored afterwards. The main process shows a progress bar.

    Raises:
        UserError: a sample cannot be used; names its file. Or one image alone does not fit in the GPU's memory. Every
            process raises the same.
    """
    world = world or World()
    indexes = range(world.rank, len(source), world.size)
    rounds = -(-len(range(0, len(source), world.size)) // batch_size)  # as many on every process
    load = partial(_load, source, protocol, num_classes, ignore_label)
    loaded = ordered_map(load, as_they_come(source, indexes), num_workers, batch_size)
    counter = ConfusionCounter(num_classes, ignore_label, device)
    batches = _Batches(model, protocol, device, batch_size, fused)
    was_training = model.training
    model.eval()
    skipped: list[str] = []
    try:
        hidden = None if world.is_main else True  # None: where stderr is not a terminal
        with tqdm(total=len(indexes), desc="evaluate", unit="image", leave=False, disable=hidden) as bar:
            for _ in range(rounds):
                with world.alike():
                    taken = list(islice(loaded, batch_size))
                    usable, reasons = _usable(taken, skip_bad)
                    if usable:
                        _count(usable, batches, counter)
                skipped += reasons
                bar.update(len(taken))
    finally:
        model.train(was_training)
        loaded.close()  # type: ignore[attr-defined]
    left_out = tuple(reason for part in world.gather(skipped) for reason in part)
    if len(left_out) == len(source):
        raise UserError(f"evaluation: none of {len(source)} samples can be used; the first: {left_out[0]}")
    return Scores(world.sum(counter.total()).cpu().numpy(), len(source) - len(left_out), left_out)


def _usable(loaded: Sequence[_Loaded | UserError], skip_bad: bool) -> tuple[list[_Loaded], list[str]]:
    """Separate what could be loaded from the reasons why the rest could not, which are said.

    Raises:
        UserError: there is one, and ``skip_bad`` is False.
    """
    usable, reasons = [], []
    for item in loaded:
        if not isinstance(item, UserError):
            usable.append(item)
        elif not skip_bad:
            raise item
        else:
            reasons.append(str(item))
            logger.warning("evaluation: left out: %s", item)
    return usable, reasons


def _count(loaded: Sequence[_Loaded], batches: _Batches, counter: ConfusionCounter) -> None:
    """Predict a batch and add it to the confusion matrix. Does not wait for a GPU."""
    pinned = batches.device.type == "cuda"
    labels = [label for _, label in loaded]
    whole = [(seen, label.shape) for seen, label in loaded if isinstance(seen, list)]
    together: list[Tensor] = []
    if whole:
        scales, targets = zip(*whole, strict=True)
        views = [
            View(*(_stack(arrays, pinned) for arrays in zip(*scale, strict=True)))
            for scale in zip(*scales, strict=True)
        ]
        together = batches.predict(views, targets)
    rest = iter(together)
    found = [next(rest) if isinstance(seen, list) else batches.predict_in_windows(seen) for seen, _ in loaded]
    truth = _flat(labels, pinned).to(batches.device, non_blocking=True)
    counter.add(truth, torch.cat([classes.view(-1) for classes in found]))


def _flat(labels: Sequence[np.ndarray], pinned: bool) -> Tensor:
    """Concatenate uint8 labels ``[H, W]`` of any sizes: ``[pixels]``."""
    out = torch.empty(sum(label.size for label in labels), dtype=torch.uint8, pin_memory=pinned)
    np.concatenate([label.reshape(-1) for label in labels], out=out.numpy())
    return out
