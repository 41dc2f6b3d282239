"""Train DeepLabV3: ``python -m deeplab_fast.train`` (see ``--help``)."""

import dataclasses
import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .cli import parse_flags, run
from .config import TrainConfig, validate_train
from .data.classes import check_same_classes, class_names, described_flags
from .data.records import RecordSource
from .data.schedule import Schedule
from .data.sources import Source, keys_digest, list_source
from .data.synthetic import CLASSES, builtin_data
from .distributed import World, process_group, world_from_environment
from .errors import UserError
from .evaluation.evaluator import Protocol
from .model import build_model
from .model.weights import load_pretrained
from .report import write_report
from .runtime import (
    Precision,
    StopRequest,
    check_precision,
    common_precision,
    prepare_backends,
    resolve_precision,
    seed_everything,
    select_device,
)
from .storage.checkpoint import BEST, CheckpointFolder, Resumable, load
from .storage.files import replace_file
from .storage.log import METRICS, RunLog, read_json_lines
from .storage.run_folder import CONFIG, locked, move_aside, open_run_folder, refuse_to_overwrite
from .training.elsewhere import dealt_anew
from .training.start import check_held_out, check_labels
from .training.state import TrainState, as_it_began, build_state, connected, precision_of_run
from .training.trainer import fit

logger = logging.getLogger("deeplab_fast")

DESCRIPTION = "Train DeepLabV3. Without data flags it trains on the built-in data set, sized for this machine."
EPILOG = """example: python -m deeplab_fast.train --data_file=voc.tar --val_data_file=val.tar --train_dir=ckpt
 --model=deeplab_v3_s16 --ckpt_pre_trained=resnet101.pth --train_epochs=200 --batch_size=32"""


def builtin_preset(on_gpu: bool) -> dict[str, Any]:
    """Flags for the built-in data set: under three minutes on two CPU cores; a larger network on a GPU."""
    preset = {
        "model": "deeplab_v3_s16",
        "backbone": "resnet18",
        "num_classes": len(CLASSES),
        "crop_size": 129,
        "batch_size": 8,
        "min_scale": 0.75,
        "max_scale": 1.5,
        "train_epochs": 12,
        "base_lr": 0.03,
        "warmup_steps": 50,
        "dropout": 0.1,
        "eval_epochs": 3,
        "save_steps": 400,
        "keep_checkpoint_max": 2,
    }
    if on_gpu:
        preset |= {"backbone": "resnet50", "crop_size": 257, "train_epochs": 60, "batch_size": 16}
    return preset


def resolve(flags: dict[str, Any], on_gpu: bool) -> TrainConfig:
    """The configuration from the flags given: presets for the built-in data set, defaults for the rest.

    Raises:
        UserError: a flag's value or a combination of flags cannot work.
    """
    asked = TrainConfig(**flags)
    if asked.is_builtin:
        flags = builtin_preset(on_gpu) | flags
    else:
        flags = flags | described_flags(flags, asked.data_file, asked.data_lst, asked.data_root)
    if not flags.get("train_dir"):
        flags = flags | {"train_dir": "runs/builtin" if asked.is_builtin else f"runs/{asked.model}"}
    config = TrainConfig(**flags)
    validate_train(config)
    return config


def open_sources(config: TrainConfig) -> tuple[Source, Source | None, list[str]]:
    """Training source, held-out source (if any) and class names."""
    if config.is_builtin:
        if config.num_classes != len(CLASSES):
            raise UserError(f"--num_classes={config.num_classes}: the built-in data set has {len(CLASSES)} classes")
        folder = builtin_data(config.cache_dir)
        return list_source(folder, folder / "train.txt"), list_source(folder, folder / "val.txt"), list(CLASSES)
    source: Source = (
        RecordSource(config.data_file, verify=config.verify)
        if config.data_file
        else list_source(config.data_root, config.data_lst)
    )
    held_out: Source | None = None
    if config.val_data_file:
        held_out = RecordSource(config.val_data_file, "val_data_file", config.verify)
    elif config.val_data_lst:
        held_out = list_source(config.val_data_root or config.data_root, config.val_data_lst)
    names = class_names(config.num_classes, config.data_file, config.data_lst, config.data_root)
    if held_out is not None:
        check_same_classes(names, config.val_data_file, config.val_data_lst, config.val_data_root or config.data_root)
    return source, held_out, names


def find_checkpoint(checkpoints: CheckpointFolder, resume: str) -> Resumable | None:
    """Find what the main process continues from, as ``--resume`` says; where that is nothing, the folder is free.

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
    return found


def continue_from(state: TrainState, found: Resumable) -> None:
    """Load the state, and say where the run goes on and what is lost."""
    state.load_state_dict(found.content, str(found.path))
    for reason, step in found.damaged:
        steps = f"; {step - state.step} steps are done again" if step is not None and step > state.step else ""
        logger.warning("%s; the one before takes its place%s", reason, steps)
    logger.info("continuing from %s, step %d of %d", found.path, state.step, state.total_steps)


def describe(state: TrainState, samples: int, held_out: int) -> str:
    """One line that says what is about to be trained, on what."""
    c, parameters = state.config, sum(p.numel() for p in state.model.parameters())
    return (
        f"{c.model} {c.backbone}, {parameters / 1e6:.1f} M parameters, {c.num_classes} classes; {samples} images"
        f" ({held_out} held out), crop {c.crop_size}, {state.world.size} x {c.batch_size * c.accumulate_steps} a step;"
        f" {state.total_steps} steps of {c.precision} on {state.device}"
    )


@dataclass
class Run:
    """A run before its first step: ``logged`` is the step of the last evaluation that its logs keep."""

    state: TrainState
    source: Source
    schedule: Schedule
    held_out: Source | None
    names: list[str]
    logged: int


def take_folder(config: TrainConfig, checkpoints: CheckpointFolder, world: World, held: ExitStack) -> Resumable | None:
    """Lock the run folder for as long as ``held`` is, and find what the run continues from, the same on all processes.

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


@contextmanager
def said_by_main(world: World) -> Iterator[None]:
    """Keep the warnings of what all processes do alike to the main one."""
    level = logger.level
    if not world.is_main:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def prepare_run(
    config: TrainConfig, here: Precision, device: torch.device, world: World, found: Resumable | None
) -> Run:
    """Open and check the data, build the model, and load what the run continues from. All processes come here together.

    ``here``: the precision of a run that begins here.

    Raises:
        UserError: the data, the weights or the checkpoint are of no use; says why.
    """
    with world.together(), said_by_main(world):
        precision = precision_of_run(config, here, None if found is None else found.content, device)
        config = dataclasses.replace(config, precision=precision.name)
        if found is not None:
            config = as_it_began(config, found.content)
            if config.resume_elsewhere:
                config = dealt_anew(config, found.content, world.size, str(found.path))
        source, held_out, names = open_sources(config)
        if world.is_main:
            check_labels(config, source, names)
    with world.together(), said_by_main(world):
        if held_out is not None:
            held_out = check_held_out(config, held_out, world)
        schedule = Schedule(
            len(source), config.batch_size, config.seed, world.rank, world.size, config.accumulate_steps
        )
        seed_everything(config.seed)
        model = build_model(config)
        if config.ckpt_pre_trained and found is None:
            load_pretrained(model, config.ckpt_pre_trained, config.filter_weight, config.allow_partial)
        held_out_digest = keys_digest(held_out) if held_out is not None else ""
        state = build_state(
            config, model, device, world, schedule, keys_digest(source), held_out_digest, precision.reason
        )
        if found is not None:
            continue_from(state, found)
    return Run(state, source, schedule, held_out, names, found.content["evaluated"] if found is not None else 0)


def begin(run: Run, checkpoints: CheckpointFolder, is_new: bool) -> RunLog:
    """Write what comes before any result, and open the logs; only the main process does.

    A new run saves its state first: where there are results, there is something to continue from.
    """
    state, folder = run.state, checkpoints.folder
    with replace_file(folder / CONFIG) as partial:
        partial.write_text(json.dumps(dataclasses.asdict(state.config), indent=1) + "\n")
    if is_new:
        checkpoints.save_last(state.state_dict(), state.step_in_epoch)
    if state.step >= state.total_steps:
        logger.info("already complete at step %d; raise --train_epochs or --max_steps to train on", state.step)
    log = RunLog(folder, state.total_steps, state.step, run.logged)
    log.say(describe(state, len(run.source), len(run.held_out) if run.held_out is not None else 0))
    return log


def train(config: TrainConfig, world: World) -> int:
    """Train as configured; returns the exit status."""
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
        run = prepare_run(config, here, device, world, found)
        state, is_new = run.state, found is None
        del found  # its tensors were copied
        log: RunLog | None = None
        with world.together():
            if world.is_main:
                log = begin(run, checkpoints, is_new)
        try:
            with connected(state):
                fit(state, run.source, run.schedule, run.held_out, checkpoints, log, stop)
        finally:
            if log is not None:
                log.close()
        signals = [one for one in world.gather(stop.signal) if one is not None]  # one process alone may have got it
        if signals and state.step < state.total_steps:
            if world.is_main:
                logger.info("stopped by %s at step %d; run again to continue", signals[0].name, state.step)
            return 128 + signals[0]
        with world.together():
            if world.is_main:
                finish(state, run.held_out, checkpoints.folder, run.names)
                checkpoints.tidy(state.run)
    return 0


def finish(state: TrainState, held_out: Source | None, folder: Path, names: list[str]) -> None:
    """Draw the report and print where it is and how good the model became."""
    config = state.config
    protocol = Protocol.of(config, config.precision)
    report = write_report(
        folder,
        state.evaluation_model,
        held_out,
        protocol,
        state.device,
        names,
        config.ignore_label,
        config.fused,
        weights=f"{'averaged' if config.ema_decay else 'last'} weights, step {state.step}",
    )
    best = folder / BEST
    if held_out is not None and state.best_miou >= 0 and best.is_file():
        content = load(best)
        measured = [r for r in read_json_lines(folder / METRICS) if r.get("miou") is not None]
        at_end = [r["miou"] for r in measured if r["step"] == state.step]
        last = f"held-out mIoU {at_end[-1]:.4f} at the end" if at_end else "held-out mIoU not measured at the end"
        print(f"{last}; best {content['miou']:.4f} in epoch {content['epoch']}: {best}")
    print(f"report {report}")


def main(argv: list[str]) -> int:
    world = world_from_environment()
    if not world.is_main:
        logger.setLevel(logging.WARNING)
    try:
        flags = parse_flags(TrainConfig, argv, "deeplab_fast.train", DESCRIPTION, EPILOG)
        on_gpu = select_device(flags.get("device_target", "auto"), world.local_rank).type == "cuda"
        config = resolve(flags, on_gpu)
    except UserError:
        if world.local_rank == 0:
            raise
        return 2  # the first process of this host has the same flags and says it
    return train(config, world)


if __name__ == "__main__":
    run(main)
