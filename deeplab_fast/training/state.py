"""The state of a training run: what a step reads and writes, and what a checkpoint holds."""

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..config import PRECISIONS, TrainConfig
from ..config.urls import public_fields
from ..data.schedule import Schedule
from ..distributed import World
from ..errors import UserError
from ..model import DeepLabV3
from ..model.layers import span_processes, use_fused
from ..ops.conv.weight_copies import WeightCopies
from ..runtime import DTYPES, Precision, keep_precision, restore_rng_state, rng_state, to_channels_last, versions
from .ema import WeightAverage
from .guard import Guard, is_finite
from .loss import Criterion, LossOptions, build_criterion
from .optim import SGD, build_optimiser, learning_rate
from .resume_elsewhere import check_dealt_alike
from .undo import BeforeStep

logger = logging.getLogger("deeplab_fast")

# Flags that decide which samples a step sees or what a state means: a run cannot continue with others.
_FIXED = (
    *("model", "backbone", "head", "num_classes", "multi_grid", "aspp_rates"),
    *("precision", "seed", "ema_decay", "decay_norm", "exif"),
)

# Flags that do not decide what a run computes, or whose change was said already.
_INDIFFERENT = (
    *("train_dir", "resume", "resume_elsewhere", "num_workers", "data_file", "augment_on", "process_timeout"),
    *("batch_size", "accumulate_steps", "verify", "save_minutes", "keep_checkpoint_max", "cache_dir"),
    *("record_cache", "record_cache_gb", "track"),
)

# What a run did that began before there was such a flag: it goes on so.
_BEFORE_FLAGS: dict[str, Any] = {"decay_norm": True, "exif": "ignore"}


@dataclass
class TrainState:
    """All that a step reads and writes. ``step`` counts finished updates."""

    config: TrainConfig
    device: torch.device
    world: World
    model: DeepLabV3
    network: nn.Module  # the model as it is called: compiled, and wrapped for several processes
    criterion: Criterion
    optimiser: SGD
    scaler: torch.amp.GradScaler
    guard: Guard
    average: WeightAverage | None
    copies: WeightCopies | None
    total_steps: int
    steps_per_epoch: int
    data: str = ""  # digest of the training samples' keys
    held_out: str = ""  # of the held-out samples' keys
    names: tuple[str, ...] = ()  # of the classes, where the data names them
    run: str = ""  # who wrote a checkpoint: drawn once, and kept by what continues it
    precision_reason: str = "as asked"  # why config.precision is what it is, for the log
    step: int = 0
    evaluated: int = 0  # step of the last evaluation
    best_miou: float = -1.0
    before: BeforeStep = field(default_factory=BeforeStep)

    @property
    def epoch(self) -> int:
        """Epoch of the last finished step, from 1."""
        return max(self.step - 1, 0) // self.steps_per_epoch + 1

    @property
    def step_in_epoch(self) -> int:
        return self.step - (self.epoch - 1) * self.steps_per_epoch

    @property
    def evaluation_model(self) -> nn.Module:
        return self.model if self.average is None else self.average.module

    def is_finite(self) -> bool:
        """Tell whether weights, statistics and momentum are all numbers. Waits for the device."""
        momenta = [tensor for one in self.optimiser.state.values() for tensor in one.values()]
        tensors = [*self.model.state_dict().values(), *momenta]
        return is_finite([t for t in tensors if t.is_floating_point() and t.numel()])

    def go_back(self, step: int, rng: dict[str, torch.Tensor]) -> None:
        """Count from ``step`` again, the last one that changed the weights; ``rng``: the generators after it."""
        self.step = step
        self.optimiser.set_rate(learning_rate(self.config, max(step - 1, 0), self.total_steps))
        restore_rng_state(rng, self.device)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors and plain values only."""
        return {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "epoch": self.epoch,
            "evaluated": self.evaluated,
            "best_miou": self.best_miou,
            "world_size": self.world.size,
            "total_steps": self.total_steps,
            "data": self.data,
            "held_out": self.held_out,
            "run": self.run,
            "rng": rng_state(self.device),
            "config": public_fields(self.config),
            "versions": versions(),
            **self.named(),
        }

    def named(self) -> dict[str, list[str]]:
        """Return the entry of a file that names the classes; nothing where they have no names."""
        return {"names": list(self.names)} if self.names else {}

    def load_state_dict(self, content: dict[str, Any], name: str) -> None:
        """Continue from a checkpoint.

        Raises:
            UserError: it belongs to a run whose steps mean something else, and names the flag; or does not fit.
        """
        saved = _BEFORE_FLAGS | {k: tuple(v) if isinstance(v, list) else v for k, v in content["config"].items()}
        for key in _FIXED:
            if saved.get(key) != getattr(self.config, key):
                raise UserError(
                    f"--{key}={getattr(self.config, key)}: {name} was trained with {saved.get(key)}; give the same"
                    " value to continue, or another --train_dir to start anew"
                )
        if content["data"] != self.data:
            raise UserError(
                f"{name} was trained on other samples; give the same data to continue, or another --train_dir"
            )
        check_dealt_alike(self.config, content, self.world.size, name)
        for key, value in public_fields(self.config).items():
            old = saved.get(key, value)
            if old != value and key not in _INDIFFERENT:
                logger.warning(
                    "--%s was %s and is now %s: the run is not the one that was interrupted", key, old, value
                )
        try:
            self._load_tensors(content)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{name}: does not fit this run ({type(error).__name__}: {reason})") from None
        self.step, self.evaluated, self.best_miou = content["step"], content["evaluated"], content["best_miou"]
        self.run = content.get("run", self.run)
        before = content.get("held_out", self.held_out)
        if not self.held_out:
            self.held_out = before  # what was measured on them stands, for a run that has them again
        elif before != self.held_out:
            if before:
                logger.warning("the held-out samples are not those of before: the best mIoU is sought anew")
            self.evaluated, self.best_miou = 0, -1.0

    def _load_tensors(self, content: dict[str, Any]) -> None:
        self.model.load_state_dict(content["model"])
        if self.average is not None:
            self.average.load_state_dict(content["average"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.scaler.load_state_dict(content["scaler"])
        if self.copies is not None and self.copies.copies:  # a recorded step reads them where they are
            self.copies.refresh()
        restore_rng_state(content["rng"], self.device)


def as_it_began(config: TrainConfig, content: dict[str, Any]) -> TrainConfig:
    """Return ``config`` with the settings of a run that began before they could be chosen, each said in the log."""
    kept = {key: value for key, value in _BEFORE_FLAGS.items() if key not in content["config"]}
    for key, value in kept.items():
        if getattr(config, key) != value:
            logger.info("--%s=%s: the run began so, and goes on so", key, value)
    return replace(config, **kept)


def precision_of_run(
    config: TrainConfig, here: Precision, content: dict[str, Any] | None, device: torch.device
) -> Precision:
    """Return the precision to train in: ``here``, but a run that auto continues keeps what its checkpoint says.

    Raises:
        UserError: the device has no use for it.
    """
    began = None if content is None else content["config"].get("precision")
    if config.precision != "auto" or began not in PRECISIONS:
        return here
    return keep_precision(began, here, device, f"--train_dir={config.train_dir}")


def build_state(
    config: TrainConfig,
    model: DeepLabV3,
    device: torch.device,
    world: World,
    schedule: Schedule,
    data: str = "",
    held_out: str = "",
    precision_reason: str = "as asked",
) -> TrainState:
    """Put the model on its device and everything around it; :func:`connected` comes next.

    ``config`` names a precision: auto was resolved before.

    Raises:
        UserError: the data does not fill one step.
    """
    if schedule.steps_per_epoch == 0:
        images = config.batch_size * config.accumulate_steps * world.size
        raise UserError(
            f"--batch_size={config.batch_size}: a step takes {images} images and the training data has only"
            f" {schedule.samples}"
        )
    total_steps = config.max_steps or config.train_epochs * schedule.steps_per_epoch
    model = to_channels_last(model, device)
    span_processes(model, world.rank, world.size, config.sync_bn)
    use_fused(model, config.fused, config.recompute_activations)
    if config.sync_bn and world.size > 1 and config.fused != "off" and device.type == "cuda":
        logger.info("each convolution runs unfused: the BatchNorm after it spans processes (--sync_bn)")
    if config.recompute_activations and config.sync_bn and world.size > 1:
        logger.warning("--recompute_activations has no effect: with --sync_bn every activation is kept")
    elif config.recompute_activations and config.fused == "auto" and device.type == "cpu":
        logger.warning("--recompute_activations has no effect: the fused kernels do not run on a CPU")
    average = None
    if config.ema_decay:
        average = WeightAverage(model, config.ema_decay)
    loss_options = LossOptions(config.ignore_label, model.align_corners, device, config.fused)
    network: nn.Module = model
    if "compile" in config.speed:
        network = torch.compile(network, dynamic=False, fullgraph=not config.sync_bn)  # type: ignore[assignment]
    optimiser = build_optimiser(model, config)
    scaler = torch.amp.GradScaler(device.type, init_scale=config.loss_scale, enabled=config.precision == "fp16")
    return TrainState(
        config=config,
        device=device,
        world=world,
        model=model,
        network=network,
        criterion=build_criterion(config.num_classes, loss_options, config),
        optimiser=optimiser,
        scaler=scaler,
        guard=Guard(model, optimiser, scaler, world),
        average=average,
        copies=_weight_copies(model, config),
        total_steps=total_steps,
        steps_per_epoch=schedule.steps_per_epoch,
        data=data,
        held_out=held_out,
        run=secrets.token_hex(8),
        precision_reason=precision_reason,
    )


def _weight_copies(model: nn.Module, config: TrainConfig) -> WeightCopies | None:
    """Return copies of convolutions' weights; None in fp32, or where torch.compile fuses the casts with other work."""
    if config.precision == "fp32" or "compile" in config.speed:
        return None
    convs = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    return WeightCopies([conv.weight for conv in convs], DTYPES[config.precision])


@contextmanager
def connected(state: TrainState) -> Iterator[None]:
    """Average the gradients over the processes inside the block, where there are several, all of which come here."""
    if state.world.size == 1:
        yield
        return
    alone = state.network
    state.network = parallel = _averaging(alone, state.device)
    try:
        yield
    finally:
        state.network = alone
        # Its C++ part owns the process group too, and must not be freed last: it would wait for gloo's threads under
        # Python's lock, and they for the lock, to free the tensors of the last exchange.
        del parallel.reducer, parallel.logger, parallel.process_group


def _averaging(network: nn.Module, device: torch.device) -> DistributedDataParallel:
    if device.type != "cuda":
        return DistributedDataParallel(network)
    side = torch.cuda.Stream()  # on the default one it would be made for steps that cannot be recorded
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        parallel = DistributedDataParallel(network, device_ids=[device])
    torch.cuda.current_stream().wait_stream(side)
    return parallel
