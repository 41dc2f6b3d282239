"""A run before its first step: its data opened and checked, its model and state built or continued."""

import dataclasses
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from ..config import TrainConfig
from ..data.schedule import Schedule
from ..distributed import World
from ..model import DeepLabV3, build_model
from ..model.weights import load_pretrained
from ..runtime import Precision, quiet, seed_everything
from ..storage.checkpoint import Resumable
from .auto_sizes import sized, sized_as_begun
from .data_checks import check_held_out, check_labels
from .resume import continue_from
from .resume_elsewhere import dealt_anew
from .sources import Sources
from .start import say_random, starting_weights
from .state import TrainState, as_it_began, build_state, precision_of_run

logger = logging.getLogger("deeplab_fast")


@dataclass
class Run:
    """A run before its first step: ``logged`` is the step of the last evaluation that its logs keep."""

    state: TrainState
    sources: Sources
    schedule: Schedule
    logged: int


def prepare_run(
    config: TrainConfig,
    here: Precision,
    device: torch.device,
    world: World,
    found: Resumable | None,
    fill: Callable[[DeepLabV3], object] | None = None,
) -> Run:
    """Open and check the data, build the model, and load what the run continues from. All processes come here together.

    ``here``: the precision of a run that begins here. ``fill``: what fills the model of a new run in place of
    ``--ckpt_pre_trained``.

    Raises:
        UserError: the data, the weights or the checkpoint are of no use; says why.
    """
    weights = starting_weights(config, world) if found is None and fill is None else None
    with world.together(), _said_by_main(world):
        precision = precision_of_run(config, here, None if found is None else found.content, device)
        config = dataclasses.replace(config, precision=precision.name)
        if found is not None:
            config = sized_as_begun(as_it_began(config, found.content), found.content)
            if config.resume_elsewhere:
                config = dealt_anew(config, found.content, world.size, str(found.path))
        sources = Sources.open(config)
        if world.is_main:
            check_labels(config, sources.train, sources.names)
    config = sized(config, sources.train, device, world)
    with world.together(), _said_by_main(world):
        if sources.held_out is not None:
            sources.held_out = check_held_out(config, sources.held_out, world)
        schedule = Schedule(
            len(sources.train), config.batch_size, config.seed, world.rank, world.size, config.accumulate_steps
        )
        seed_everything(config.seed)
        model = build_model(config)
        if fill is not None:
            fill(model)
        elif weights is not None:
            load_pretrained(model, weights, config.filter_weight, config.allow_partial, config.ckpt_channels)
        elif found is None and world.is_main:
            say_random(config)
        state = build_state(config, model, device, world, schedule, *sources.digests(), precision.reason)
        state.names = sources.own_names
        if found is not None:
            continue_from(state, found)
    return Run(state, sources, schedule, found.content["evaluated"] if found is not None else 0)


def _said_by_main(world: World) -> AbstractContextManager[None]:
    """Keep the warnings of what all processes do alike to the main one."""
    return nullcontext() if world.is_main else quiet(logger.name, logging.ERROR)
