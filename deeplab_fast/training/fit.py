"""A training run from end to end: :func:`fit` opens the data, resumes, trains, and leaves logs and a report."""

import dataclasses
import json
import logging
import signal
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ..config import TrainConfig, validate_train
from ..config.urls import public_fields
from ..distributed import World, process_group
from ..errors import Interrupted, UserError
from ..report.training_page import write_report
from ..requirements import untested
from ..runtime import (
    check_precision,
    common_precision,
    prepare_backends,
    resolve_precision,
    select_device,
)
from ..signals import StopRequest
from ..storage.checkpoint import BEST, CheckpointFolder, load
from ..storage.files import replace_file
from ..storage.log import METRICS, RunLog, read_json_lines
from ..storage.run_folder import CONFIG
from ..storage.trackers import TrackedRun, Trackers, check_trackers
from .resume import take_folder
from .run import Run, prepare_run
from .state import connected
from .subject import subject_of
from .trainer import Trainer

logger = logging.getLogger("deeplab_fast")


@dataclass(frozen=True)
class Outcome:
    """The end of a run.

    ``step``: the last one done. ``stopped_by``: the signal that ended it early, or None. ``best``: the weights of the
    best evaluation and ``best_miou``, ``best_epoch`` of it; ``miou`` at the last step; None where none was measured.
    ``report``: the folder of its page, on the main process of a run that came to its end.
    """

    folder: Path
    step: int
    stopped_by: signal.Signals | None = None
    miou: float | None = None
    best: Path | None = None
    best_miou: float | None = None
    best_epoch: int | None = None
    report: Path | None = None


def fit(config: TrainConfig, world: World | None = None) -> Outcome:
    """Train as configured, to the end or until SIGINT or SIGTERM; a run that is there in ``train_dir`` is continued.

    Args:
        config: complete, with a ``train_dir``; ``precision`` may be ``auto``, ``crop_size`` and ``batch_size``
            ``config.AUTO``.
        world: this process's place among those of the run; default: alone.

    Raises:
        UserError: a flag, the data, the weights or the folder are of no use; says why.
        TrainingDiverged: a loss, its gradients or a weight is NaN or infinite.
        Interrupted: a signal came while the data was waited for, before the first step.
    """
    world = world or World()
    if world.is_main:
        for line in untested():
            logger.warning("%s", line)
    validate_train(config)
    check_trackers(config.track)
    device = select_device(config.device_target, world.local_rank)
    prepare_backends(device)
    if config.is_distributed and world.size == 1:
        raise UserError(
            "--is_distributed=True: start the processes with torchrun --nproc-per-node=N -m deeplab_fast.train"
        )
    checkpoints = CheckpointFolder(Path(config.train_dir), config.model, config.keep_checkpoint_max)
    with (
        process_group(world, device, config.process_timeout, "graph" in config.speed),
        StopRequest().listening() as stop,
        ExitStack() as held,
    ):
        with world.together():
            check_precision(config.precision, device)
        here = common_precision(world.gather(resolve_precision(config.precision, device)))
        found = take_folder(config, checkpoints, world, held)
        try:
            run = prepare_run(config, here, device, world, found)
        except UserError as error:
            if stop.signal is None:
                raise
            logger.info("%s", error)  # such as that samples were still waited for; there is nothing to save yet
            raise Interrupted(stop.signal) from None
        is_new = found is None
        del found  # its tensors were copied
        _train(run, checkpoints, is_new, stop)
        return _end(run, checkpoints, stop)


def _train(run: Run, checkpoints: CheckpointFolder, is_new: bool, stop: StopRequest) -> None:
    log: RunLog | None = None
    with run.state.world.together():
        if run.state.world.is_main:
            log = _begin(run, checkpoints, is_new)
    try:
        with connected(run.state):
            Trainer(run.state, checkpoints, log, stop).run(run.sources.train, run.schedule, run.sources.held_out)
    finally:
        if log is not None:
            log.close()


def _begin(run: Run, checkpoints: CheckpointFolder, is_new: bool) -> RunLog:
    """Write what comes before any result, and open the logs; only the main process does.

    A new run saves its state first: where there are results, there is something to continue from.
    """
    state, folder = run.state, checkpoints.folder
    with replace_file(folder / CONFIG) as partial:
        partial.write_text(json.dumps(public_fields(state.config), indent=1) + "\n")
    if is_new:
        checkpoints.save_last(state.state_dict(), state.step_in_epoch)
    if state.step >= state.total_steps:
        logger.info("already complete at step %d; raise --train_epochs or --max_steps to train on", state.step)
    flags = public_fields(state.config)
    trackers = Trackers(state.config.track, TrackedRun(folder, state.run, state.step, flags))
    log = RunLog(folder, state.total_steps, state.step, run.logged, trackers, run.sources.names)
    log.say(_description(run))
    return log


def _description(run: Run) -> str:
    """Say in one line what is about to be trained, on what."""
    state, c = run.state, run.state.config
    parameters, held_out = sum(p.numel() for p in state.model.parameters()), run.sources.held_out
    return (
        f"{c.model} {c.backbone}, {parameters / 1e6:.1f} M parameters, {c.num_classes} classes;"
        f" {len(run.sources.train)} images ({len(held_out) if held_out is not None else 0} held out),"
        f" crop {c.crop_size}, {state.world.size} x {c.batch_size * c.accumulate_steps} a step;"
        f" {state.total_steps} steps of {c.precision} on {state.device}"
    )


def _end(run: Run, checkpoints: CheckpointFolder, stop: StopRequest) -> Outcome:
    """Say that the run was stopped, or write its report and remove what only a run that goes on needs."""
    state, outcome = run.state, Outcome(checkpoints.folder, run.state.step)
    signals = [one for one in state.world.gather(stop.signal) if one is not None]  # one process alone may have got it
    if signals and state.step < state.total_steps:
        if state.world.is_main:
            logger.info("stopped by %s at step %d; run again to continue", signals[0].name, state.step)
        return dataclasses.replace(outcome, stopped_by=signals[0])
    with state.world.together():
        if state.world.is_main:
            outcome = _report(run, outcome)
            checkpoints.tidy(state.run)
    return outcome


def _report(run: Run, outcome: Outcome) -> Outcome:
    """Write the report, and look up how good the model became."""
    state, config, held_out = run.state, run.state.config, run.sources.held_out
    subject = None if held_out is None else subject_of(state, held_out)
    weights = f"{'averaged' if config.ema_decay else 'last'} weights, step {state.step}"
    report = write_report(outcome.folder, subject, weights)
    outcome = dataclasses.replace(outcome, report=report)
    best = outcome.folder / BEST
    if held_out is None or state.best_miou < 0 or not best.is_file():
        return outcome
    content = load(best)
    measured = [r for r in read_json_lines(outcome.folder / METRICS) if r.get("miou") is not None]
    at_end = [r["miou"] for r in measured if r["step"] == state.step]
    miou = at_end[-1] if at_end else None
    return dataclasses.replace(outcome, miou=miou, best=best, best_miou=content["miou"], best_epoch=content["epoch"])
