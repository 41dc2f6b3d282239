"""Our training, as :mod:`deeplab_fast.train` does it, under the meter."""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path

import torch

from deeplab_fast.config import TrainConfig
from deeplab_fast.distributed import World
from deeplab_fast.errors import Interrupted
from deeplab_fast.model import DeepLabV3
from deeplab_fast.runtime import prepare_backends, resolve_precision
from deeplab_fast.signals import StopRequest
from deeplab_fast.storage.checkpoint import CheckpointFolder
from deeplab_fast.storage.log import TIMING, RunLog, read_json_lines
from deeplab_fast.storage.run_folder import open_run_folder
from deeplab_fast.storage.trackers import TrackedRun, Trackers
from deeplab_fast.training.run import Run, prepare_run
from deeplab_fast.training.state import connected
from deeplab_fast.training.trainer import Trainer

from .cost import Meter, Training

logger = logging.getLogger("deeplab_fast")

_PROBE_STEPS = 20  # by which our speed is found, their first half apart


def train_ours(config: TrainConfig, device: torch.device, fill: Callable[[DeepLabV3], object]) -> Training:
    """Train as configured, from the weights that ``fill`` gives the network; logs and checkpoint are in the time.

    Raises:
        UserError: the data is of no use.
        TrainingDiverged: a loss is NaN or infinite.
        Interrupted: a signal came.
    """
    prepare_backends(device)
    folder = Path(config.train_dir)
    open_run_folder(folder)
    with StopRequest().listening() as stop:
        run = prepare_run(config, resolve_precision(config.precision, device), device, World(), None, fill)
        log = RunLog(folder, run.state.total_steps, 0, 0, Trackers((), TrackedRun(folder, "", 0, {})))
        try:
            meter = Meter(device)
            with connected(run.state):
                trainer = Trainer(run.state, CheckpointFolder(folder, config.model, 1), log, stop)
                trainer.run(run.sources.train, run.schedule, None)
            cost = meter.read()
        finally:
            log.close()
        if stop.signal is not None:
            raise Interrupted(stop.signal)
    return Training(_weights(run), run.state.step, _last_loss(log), cost)


def fitting_steps(
    config: TrainConfig, seconds: float, device: torch.device, fill: Callable[[DeepLabV3], object]
) -> int:
    """Return how many steps of ours fit into ``seconds``, by the speed of a few; at least one."""
    probe = dataclasses.replace(
        config, max_steps=_PROBE_STEPS, log_steps=_PROBE_STEPS // 2, train_dir=f"{config.train_dir}-probe"
    )
    train_ours(probe, device, fill)
    step_s = read_json_lines(Path(probe.train_dir) / TIMING)[-1]["step_ms"] / 1e3
    steps = max(1, int(seconds / step_s))
    logger.info("ours: %.0f ms a step; %d steps fit into the reference's %.0f s", 1e3 * step_s, steps, seconds)
    return steps


def _weights(run: Run) -> dict[str, torch.Tensor]:
    return {name: tensor.cpu().contiguous() for name, tensor in run.state.evaluation_model.state_dict().items()}


def _last_loss(log: RunLog) -> float:
    return float(read_json_lines(log.metrics.path)[-1]["loss"])
