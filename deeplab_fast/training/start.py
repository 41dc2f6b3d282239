"""The weights that a new run starts from: a file's, published ones fetched before the first step, or random ones."""

import logging
import threading
import time
from pathlib import Path

from ..config import TrainConfig
from ..distributed import World
from ..errors import UserError
from ..model.weights.named import find_weights, imagenet_weights, published

logger = logging.getLogger("deeplab_fast")

_ASK_S = 0.5  # between the words that processes exchange while one of them downloads


def starting_weights(config: TrainConfig, world: World) -> Path | None:
    """Return the file of ``--ckpt_pre_trained``, fetched where it is a name; None without one.

    The first process of each host downloads. The others are told every moment that it still does, so that a download
    may take longer than ``--process_timeout``. All processes come here together.

    Raises:
        UserError: no such file or name, weights of another backbone, or they cannot be downloaded.
    """
    if not config.ckpt_pre_trained:
        return None
    path: Path | None = None
    search: _Search | None = None
    with world.together():
        _check_backbone(config)
        if world.size == 1:
            return _find(config)
        if world.local_rank == 0:
            search = _Search(config)
            search.start()
    while world.any(search is not None and search.is_alive()):
        time.sleep(_ASK_S)
    with world.together():
        if search is not None:
            path = search.result()
    with world.together():
        return path or _find(config)


class _Search(threading.Thread):
    """A search, with its download, beside the main thread, which meanwhile answers the other processes."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(daemon=True)
        self._config = config
        self._outcome: Path | Exception = UserError("the search for weights did not begin")

    def run(self) -> None:
        try:
            self._outcome = _find(self._config)
        except Exception as error:
            self._outcome = error

    def result(self) -> Path:
        """Return the file, or raise what the search raised; it has ended."""
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


def _find(config: TrainConfig) -> Path:
    return find_weights(config.ckpt_pre_trained, "--ckpt_pre_trained", config.cache_dir)


def _check_backbone(config: TrainConfig) -> None:
    """Refuse published weights of another backbone before they are downloaded; a file's are looked at when read."""
    weights = published(config.ckpt_pre_trained)
    if weights is not None and weights.backbone != config.backbone and not config.allow_partial:
        raise UserError(
            f"--ckpt_pre_trained={config.ckpt_pre_trained}: its backbone is {weights.backbone}, this model's"
            f" {config.backbone}; --backbone={weights.backbone} fits"
        )


def say_random(config: TrainConfig) -> None:
    """Log that a run on own data has no weights to start from, with the flag that gives them to its backbone."""
    name = imagenet_weights(config.backbone)
    if name is not None and not config.is_builtin:
        logger.info("weights start as random numbers; --ckpt_pre_trained=%s starts from those of ImageNet", name)
