"""What a new run's weights start from: a file, published weights fetched before the first step, or random numbers."""

import logging
import threading
import time
from pathlib import Path

from ..config import TrainConfig
from ..distributed import World
from ..errors import UserError
from ..model.weights import find_weights, imagenet_weights
from ..model.weights.pretrained import PRETRAINED

logger = logging.getLogger("deeplab_fast")

_ASK_S = 0.5  # between the words that processes exchange while one of them downloads


def starting_weights(config: TrainConfig, world: World) -> Path | None:
    """Return the file of ``--ckpt_pre_trained``, fetched where it is a name; None, which the log says, without one.

    The first process of each host downloads. The others are told every moment that it still does, so that a download
    may take longer than ``--process_timeout``. All processes come here together.

    Raises:
        UserError: no such file or name, weights of another backbone, or they cannot be downloaded.
    """
    text = config.ckpt_pre_trained
    if not text:
        _say_random(config)
        return None
    with world.together():
        _check_backbone(config)
        if world.size == 1:
            return find_weights(text, "--ckpt_pre_trained", config.cache_dir)
    search = _Search(config) if world.local_rank == 0 else None
    while world.any(search is not None and search.is_alive()):
        time.sleep(_ASK_S)
    with world.together():
        if search is not None:
            return search.result()
        return find_weights(text, "--ckpt_pre_trained", config.cache_dir)
