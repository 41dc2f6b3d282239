"""Evaluation of a set: every sample seen once over all processes, and counted.

How an image becomes classes, and where its truth is read, is its protocol's (``protocols/``).
"""

import dataclasses
import logging
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from ..data.pairs import Image, read_pair
from ..data.sources import Source, as_they_come
from ..data.threads import ordered_map
from ..errors import UserError, enough_memory, is_out_of_memory
from .metrics import Scores
from .protocols import EvaluationProtocol, Machine
from .settings import Settings
from .tally import Tally

logger = logging.getLogger("deeplab_fast")


class _Loaded(NamedTuple):
    """A sample by its number: what the network is to see of it, and its truth, uint8 ``[H, W]``."""

    sample: int
    seen: Any
    truth: Image


def evaluate(model: torch.nn.Module, source: Source, protocol: EvaluationProtocol, settings: Settings) -> Scores:
    """Score ``model`` on every sample of ``source``, each counted once over all processes.

    A pass through the network has no more pixels than ``batch_size`` images of the crop size, at any scale, where the
    protocol has one, else no more images; and fewer where memory is not enough, which is said. Nothing waits
    for a GPU but the end, unless each image or the boundaries count.

    The model's training mode is restored afterwards. The main process shows a progress bar.

    Raises:
        UserError: a sample cannot be used; names its file. Or one image alone does not fit in memory. Every
            process raises the same.
    """
    world, batch_size = settings.world, settings.batch_size
    indexes = range(world.rank, len(source), world.size)
    rounds = -(-len(range(0, len(source), world.size)) // batch_size)  # as many on every process
    load = partial(_load, source, protocol, settings)
    loaded = ordered_map(load, as_they_come(source, indexes), settings.num_workers, batch_size)
    tally = Tally(settings)
    batches = _Batches(Machine(model, settings.device, settings.fused, batch_size), protocol)
    was_training = model.training
    model.eval()
    skipped: list[str] = []
    try:
        hidden = None if world.is_main else True  # None: where stderr is not a terminal
        with tqdm(total=len(indexes), desc="evaluate", unit="image", leave=False, disable=hidden) as bar:
            for _ in range(rounds):
                with world.alike(), enough_memory("evaluation", "a smaller --num_workers or --batch_size"):
                    taken = list(islice(loaded, batch_size))
                    usable, reasons = _usable(taken, settings.skip_bad)
                    if usable:
                        samples, seen, truths = zip(*usable, strict=True)
                        tally.add(samples, truths, batches.predict(seen, [truth.shape for truth in truths]))
                skipped += reasons
                bar.update(len(taken))
    finally:
        model.train(was_training)
        loaded.close()  # type: ignore[attr-defined]
    left_out = tuple(reason for part in world.gather(skipped) for reason in part)
    if len(left_out) == len(source):
        raise UserError(f"evaluation: none of {len(source)} samples can be used; the first: {left_out[0]}")
    return tally.scores(len(source) - len(left_out), left_out)


def _load(source: Source, protocol: EvaluationProtocol, settings: Settings, index: int) -> _Loaded | UserError:
    """Load what is seen of image ``index``, and its truth; or return why not."""
    try:
        image, label = read_pair(source, index, settings.num_classes, settings.ignore_label, protocol.decoding)
    except UserError as error:
        return error
    try:
        return _Loaded(index, protocol.see(image), protocol.truth(label))
    except UserError as error:
        return UserError(f"{source.where(index)[0]}: {error}")


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


class _Batches:
    """A predictor of batches, with fewer images at a time once memory was not enough for as many."""

    def __init__(self, machine: Machine, protocol: EvaluationProtocol) -> None:
        self.machine, self.protocol = machine, protocol

    def predict(self, seen: Sequence[Any], targets: Sequence[tuple[int, int]]) -> list[Tensor]:
        while True:
            try:
                return self.protocol.classes(self.machine, seen, targets)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if self.machine.at_once == 1:
                    raise UserError(
                        f"evaluation: the memory of {self.machine.device} is not enough for"
                        f" {self.protocol.largest}; expected {self.protocol.memory_advice}"
                    ) from None
            # Not within the handler: the error holds the frames, and they what was allocated.
            self.machine = dataclasses.replace(self.machine, at_once=self.machine.at_once // 2)
            logger.warning("evaluation: not enough memory; goes on with %d images at a time", self.machine.at_once)
            if self.machine.device.type == "cuda":
                torch.cuda.empty_cache()
