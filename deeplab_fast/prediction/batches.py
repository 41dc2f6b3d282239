"""Image files through the network, batch by batch; what cannot be used does not stop the others."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.sources import read_bytes
from ..errors import UserError, is_out_of_memory
from ..evaluation.scored import ScoredImage
from ..ops import decode_image
from ..storage.result_files import content_digest
from .inputs import Item
from .network import Network
from .remote_image import RemoteImage

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Loaded:
    """A file: the digest of its content and its pixels, uint8 ``[H, W, 3]``."""

    item: Item
    digest: str
    image: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Segmented:
    """A file with its classes, uint8 ``[H, W]``, and its scores."""

    loaded: Loaded
    classes: NDArray[np.uint8]
    scored: ScoredImage


def segment_files(
    network: Network, items: Iterable[Item], batch_size: int, finish: Callable[[Segmented], T]
) -> Iterator[tuple[Item, T | UserError]]:
    """Yield each file and what ``finish`` makes of it, or why it cannot be used: unreadable, or too large for memory.

    Where memory is not enough for a batch, its images go through the network one by one.
    """
    pending = iter(items)
    while batch := list(islice(pending, batch_size)):
        loaded = []
        for item in batch:
            one = _guarded(lambda item=item: _load(item, network), item, network)  # type: ignore[misc]
            if isinstance(one, UserError):
                yield item, one
            else:
                loaded.append(one)
        for found in score_batch(network, loaded):
            if isinstance(found, tuple):
                yield found
            else:
                item = found.loaded.item
                yield item, _guarded(lambda found=found: finish(found), item, network)  # type: ignore[misc]


def _load(item: Item, network: Network) -> Loaded:
    data = item.path.read_bytes() if isinstance(item.path, RemoteImage) else read_bytes(item.path)
    return Loaded(item, content_digest(data), decode_image(data, str(item.path), network.protocol.decoding))


def score_batch(network: Network, loaded: Sequence[Loaded]) -> Iterator[Segmented | tuple[Item, UserError]]:
    """Yield the classes of a batch, or of its images one by one where they are too many at once."""
    if not loaded:
        return
    found = _guarded(lambda: network.score([one.image for one in loaded]), loaded[0].item, network)
    if not isinstance(found, UserError):
        for one, (classes, scored) in zip(loaded, found, strict=True):
            yield Segmented(one, classes, scored)
    elif len(loaded) == 1:
        yield loaded[0].item, found
    else:
        for one in loaded:
            yield from score_batch(network, [one])


def _guarded(work: Callable[[], T], item: Item, network: Network) -> T | UserError:
    """Return what ``work`` returns, its mistake, or the one that says that memory is not enough for ``item``."""
    try:
        return work()
    except UserError as error:
        return error
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    # Not within the handler: the error holds the frames, and they what was allocated.
    if network.device.type == "cuda":
        torch.cuda.empty_cache()
    return UserError(f"{item.path}: not enough memory for it")
