"""A run that the MindSpore recipe began, made one that goes on here: weights, momentum and step.

What a checkpoint of MindSpore does not hold is not continued: the order of the samples before its step, the state of
random numbers, and the loss scale.
"""

import logging
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor, nn

from ..config import TrainConfig, validate_train
from ..distributed import World
from ..errors import UserError
from ..model import build_model
from ..model.weights import load_exactly, start_from
from ..model.weights.mindspore_training import MindsporeTraining, read_training
from ..model.weights.tensors import shape
from ..runtime import check_precision, prepare_backends, resolve_precision, select_device
from ..storage.checkpoint import CheckpointFolder
from .optim import SGD, learning_rate
from .resume import take_folder
from .run import Run, prepare_run

logger = logging.getLogger("deeplab_fast")

_ALIKE = 1e-5  # of the base learning rate: MindSpore keeps its rates in fp32


def continue_here(config: TrainConfig, path: Path) -> tuple[Path, int, int]:
    """Write ``last.pt`` into ``train_dir``, from which training with the same configuration continues the run of
    ``path``; return that file, its step and the total.

    The data are opened and checked, and the network is built, as training does it.

    Raises:
        UserError: the file is no checkpoint of such a training or of another network, its step is beyond the last one,
            the folder holds a run, or as :func:`deeplab_fast.training.run.prepare_run`.
    """
    validate_train(config)
    began = read_training(path, config.ckpt_channels)
    _check(config, began)
    device = select_device(config.device_target)
    prepare_backends(device)
    check_precision(config.precision, device)
    checkpoints = CheckpointFolder(Path(config.train_dir), config.model, config.keep_checkpoint_max)
    world = World()
    with ExitStack() as held:
        if (there := take_folder(config, checkpoints, world, held)) is not None:
            raise UserError(
                f"--train_dir={config.train_dir}: holds a run ({there.path.name}); choose another folder, or"
                " --resume=False, which moves it to a subfolder"
            )
        here = resolve_precision(config.precision, device)
        run = prepare_run(config, here, device, world, None, fill=lambda model: start_from(model, began.weights))
        _take_over(run, began)
        return checkpoints.save_last(run.state.state_dict(), run.state.step_in_epoch), began.step, run.state.total_steps


def _check(config: TrainConfig, began: MindsporeTraining) -> None:
    """Refuse weights or momentum that do not fill the network of ``config`` exactly, before any data are opened."""
    model = build_model(config)
    load_exactly(model, began.weights)
    path, own = began.weights.path, dict(model.named_parameters())
    for name, parameter in own.items():
        found = began.moments.get(name)
        if found is None:
            raise UserError(f"{path}: has no momentum of {name}; expected moments.* of every parameter")
        if found.shape != parameter.shape:
            raise UserError(f"{path}: the momentum of {name} is {shape(found)}; expected {shape(parameter)}")
    if extra := [name for name in began.moments if name not in own]:
        raise UserError(f"{path}: unexpected momentum of {extra[0]}; expected those of this network's parameters")


def _take_over(run: Run, began: MindsporeTraining) -> None:
    """Put momentum and step into a run whose weights are those of ``began``."""
    state = run.state
    if began.step > state.total_steps:
        raise UserError(
            f"{began.weights.path}: ended step {began.step}, beyond the last one, {state.total_steps}; expected the"
            " --train_epochs, --batch_size (or --max_steps) and data that it was trained with"
        )
    fill_momentum(state.optimiser, state.model, began.moments)
    state.step = began.step
    _warn_of_another_schedule(state.config, began, state.total_steps)


def fill_momentum(optimiser: SGD, model: nn.Module, moments: dict[str, Tensor]) -> None:
    """Set the momentum of every parameter of ``model``; ``moments`` by their names, of their shapes."""
    for name, parameter in model.named_parameters():
        optimiser.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).detach().copy_(moments[name])


def _warn_of_another_schedule(config: TrainConfig, began: MindsporeTraining, total_steps: int) -> None:
    """Say where the flags are not those that the file's training had, as far as it tells."""
    path = began.weights.path
    if began.momentum is not None and abs(began.momentum - config.momentum) > 1e-6:
        logger.warning("%s: trained with momentum %g; it goes on with %g", path, began.momentum, config.momentum)
    if began.rates is None:
        return
    if len(began.rates) not in (1, total_steps):  # 1: the same throughout
        logger.warning(
            "%s: its schedule has %d steps, these flags and data %d; the learning rates are those of the flags",
            path,
            len(began.rates),
            total_steps,
        )
    elif began.step < total_steps:
        theirs = float(began.rates[min(began.step, len(began.rates) - 1)])
        ours = learning_rate(config, began.step, total_steps)
        if abs(theirs - ours) > _ALIKE * config.base_lr:
            logger.warning("%s: its next learning rate is %.6g; it goes on with %.6g", path, theirs, ours)
