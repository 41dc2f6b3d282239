"""The folder that a run takes, and what it continues from there."""

import logging
from contextlib import ExitStack

from ..config import TrainConfig
from ..data.synthetic import builtin_data
from ..distributed import World
from ..errors import UserError
from ..storage.checkpoint import CheckpointFolder, Resumable
from ..storage.run_folder import locked, move_aside, open_run_folder, refuse_to_overwrite
from .state import TrainState

logger = logging.getLogger("deeplab_fast")


def take_folder(config: TrainConfig, checkpoints: CheckpointFolder, world: World, held: ExitStack) -> Resumable | None:
    """Lock the run folder for as long as ``held`` is; return what the run continues from, on all processes the same.

    Raises:
        UserError: the folder cannot be written, is in use, or holds what must not be written over.
    """
    found: Resumable | None = None
    with world.together():  # what one process does for all
        if world.is_main:
            open_run_folder(checkpoints.folder)
            held.enter_context(locked(checkpoints.folder))
            found = find_checkpoint(checkpoints, config.resume)
            if config.is_builtin:
                builtin_data(config.cache_dir)
    path = world.gather(None if found is None else found.path)[0]
    with world.together():
        if path is not None and not world.is_main:
            if not path.is_file():
                raise UserError(
                    f"--train_dir={path.parent}: not the same folder for all processes; expected a shared disk"
                )
            found = Resumable(path, checkpoints.read(path), [])
    return found


def find_checkpoint(checkpoints: CheckpointFolder, resume: str) -> Resumable | None:
    """Return what the main process continues from, as ``--resume`` says; where that is nothing, the folder is free.

    A damaged ``best.pt`` beside it is set aside.

    Raises:
        UserError: there is nothing and there must be, or results of a run that cannot be continued.
    """
    folder = checkpoints.folder
    if resume == "False":
        moved = move_aside(folder)
        if moved is not None:
            logger.info("starting over; what was in %s is now in %s", folder, moved)
    others = checkpoints.of_other_models()
    if others:
        raise UserError(f"--train_dir={folder}: holds {others[0].name} of another --model; choose another folder")
    found = checkpoints.newest()
    if found is None:
        if resume == "True":
            raise UserError(f"--resume=True: no checkpoint of {checkpoints.model} in {folder}")
        refuse_to_overwrite(folder)
    else:
        checkpoints.set_aside_best()
    return found


def continue_from(state: TrainState, found: Resumable) -> None:
    """Load the state, and say where the run goes on and what is lost."""
    state.load_state_dict(found.content, str(found.path))
    for reason, step in found.damaged:
        steps = f"; {step - state.step} steps are done again" if step is not None and step > state.step else ""
        logger.warning("%s; the one before takes its place%s", reason, steps)
    logger.info("continuing from %s, step %d of %d", found.path, state.step, state.total_steps)
