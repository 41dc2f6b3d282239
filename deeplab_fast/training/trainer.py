"""The training loop: what happens between steps."""

import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from ..config import TrainConfig
from ..data.augment import Augment
from ..data.dataset import BadSamples, Batch, TrainingSet
from ..data.loader import Loader, LoaderOptions, open_loader
from ..data.native_loader import Finish
from ..data.schedule import Schedule
from ..data.sources import Source
from ..errors import TrainingDiverged, UserError
from ..evaluation.evaluator import Protocol, evaluate
from ..ops import Decoding
from ..runtime import DTYPES, StopRequest, versions
from ..storage.checkpoint import BEST, WEIGHTS_FORMAT, CheckpointFolder, save_atomically
from ..storage.log import RunLog
from .optim import learning_rate
from .profile import ProfiledStep
from .state import TrainState
from .step import choose_step

logger = logging.getLogger("deeplab_fast")


class LossBlock:
    """Losses of the last steps, fetched from the device together, with the time they took."""

    def __init__(self, state: TrainState) -> None:
        self.state = state
        self.pending: list[tuple[int, int, float, Tensor, list[str]]] = []
        self.diverged: tuple[int, float, list[str]] | None = None
        self.data_s = 0.0
        self.since = time.perf_counter()

    def add(self, loss: Tensor, keys: list[str]) -> None:
        """Note the loss of the step just done, made from the samples ``keys``."""
        state = self.state
        lr = learning_rate(state.config, state.step - 1, state.total_steps)
        self.pending.append((state.step, state.epoch, lr, loss, keys))

    def restart_clock(self) -> None:
        self.since, self.data_s = time.perf_counter(), 0.0

    def fetch(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Records of the pending steps, up to the first loss that is no number, and their timing.

        Waits for the device.
        """
        state, pending = self.state, self.pending
        self.pending = []
        if not pending:
            return [], {}
        shares = torch.stack([p[3] for p in pending]).double()
        losses = state.world.sum(shares.clone()).tolist()
        elapsed = time.perf_counter() - self.since
        steps, images = len(pending), state.config.batch_size * state.config.accumulate_steps * state.world.size
        timing = {
            "step_ms": 1e3 * elapsed / steps,
            "data_ms": 1e3 * self.data_s / steps,
            "data_share": self.data_s / elapsed,
            "images_per_s": steps * images / elapsed,
            "max_memory_mb": _max_memory_mb(state.device),
        }
        self.restart_clock()
        self._report_bad_labels(pending)
        records = []
        for (step, epoch, lr, _, keys), loss, share in zip(pending, losses, shares.tolist(), strict=True):
            if not math.isfinite(loss):
                blamed = [] if math.isfinite(share) else keys  # of the processes whose own share it is
                self.diverged = (step, loss, [key for part in state.world.gather(blamed) for key in part])
                break
            records.append({"step": step, "epoch": epoch, "loss": loss, "lr": lr})
        return records, timing

    def _report_bad_labels(self, pending: Sequence[tuple[int, int, float, Tensor, list[str]]]) -> None:
        """The loader refuses files with such labels; these came another way, or the ignore label is another."""
        config = self.state.config
        count, largest = self.state.criterion.bad.take()
        if count:
            logger.warning(
                "steps %d to %d: %d labels are neither a class (0 to %d) nor the ignore label %d, the largest %d;"
                " they do not count",
                *(pending[0][0], pending[-1][0], count, config.num_classes - 1, config.ignore_label, largest),
            )

    def check(self) -> None:
        """Raise :class:`TrainingDiverged` where the last :meth:`fetch` met a loss that is no number."""
        if self.diverged is not None:
            step, loss, keys = self.diverged
            if not self.state.world.is_main:
                raise SystemExit(1)
            raise TrainingDiverged(
                f"step {step}: loss is {loss}; samples {', '.join(keys)}. A lower --base_lr, --warmup_steps or"
                " --clip_grad_norm may help; where continuing ends in the same way, remove the newest checkpoint first"
            )


def _max_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def fit(
    state: TrainState,
    source: Source,
    schedule: Schedule,
    val_source: Source | None,
    checkpoints: CheckpointFolder,
    log: RunLog | None,
    stop: StopRequest,
) -> None:
    """Train from ``state.step`` to the end or until ``stop``.

    ``log`` is None on all but the main process. Every evaluation, checkpoint and log line belongs to
    a step, and a checkpoint holds all before it, so a run continues as if never interrupted.

    Raises:
        UserError: a sample cannot be used.
        TrainingDiverged: a loss is NaN or infinite.
    """
    config, world = state.config, state.world
    with world.together():
        loader = build_loader(config, source, schedule, state.device)
        step, plan = choose_step(state)
    if log is not None:
        log.say(f"data: {loader.plan}")
        log.say(f"speed: {config.precision} ({state.precision_reason}), {plan}")
        if config.profile:
            step = ProfiledStep(step, state, checkpoints.folder, log.say)
    first, last = (n * config.accumulate_steps for n in (state.step, state.total_steps))
    batches = loader.batches(first, last)
    block = LossBlock(state)

    def flush() -> None:
        records, timing = block.fetch()
        if log is not None:
            log.steps(records, timing)
        block.check()

    saved_at, saved_step = time.monotonic(), state.step

    def save(write: Callable[[dict[str, Any], int], Path]) -> None:
        nonlocal saved_at, saved_step
        flush()
        with world.together(), stop.deferred():
            if log is not None:
                log.sync()
                log.say(f"saved {write(state.state_dict(), state.step_in_epoch)}, step {state.step}")
        saved_at, saved_step = time.monotonic(), state.step
        block.restart_clock()

    def save_as_due() -> None:
        save(checkpoints.save if _stays(state) else checkpoints.save_last)

    def evaluate_now(val_source: Source) -> None:
        flush()
        try:
            _evaluate(state, val_source, checkpoints, log, stop)
        except UserError as error:
            save_and_end(error)

    def save_and_end(error: UserError) -> NoReturn:
        """Save the steps done, then end with an error that every process has."""
        if state.step != saved_step:
            save_as_due()
        world.end_alike(error)

    state.network.train()
    if val_source is not None and _evaluation_due(state):
        evaluate_now(val_source)
        save_as_due()
    block.restart_clock()
    while state.step < state.total_steps:
        fetch = _Timed(batches)
        group, error = _take(fetch, config.accumulate_steps)
        error = world.first_error(error)  # before the step, whose exchanges all processes must come to, or none
        if error is not None:
            save_and_end(UserError(f"{error}; 'prepare check' finds all such files"))
        block.data_s += fetch.seconds
        loss = step(group)
        block.add(loss, [key for batch in group for key in batch.keys])
        boundary = state.step % config.log_steps == 0 or state.step == state.total_steps
        if boundary:
            flush()
        stopping = long_ago = False
        if boundary or world.size == 1:  # processes stop and save at the same step: they agree where they meet anyway
            stopping = world.any(stop.signal is not None) and state.step < state.total_steps
            long_ago = world.any(time.monotonic() - saved_at >= 60 * config.save_minutes)
        if stopping:
            save_as_due()
            break
        due = False
        if val_source is not None and (due := _evaluation_due(state)):
            evaluate_now(val_source)
        if due or long_ago or _stays(state):
            save_as_due()


def build_loader(config: TrainConfig, source: Source, schedule: Schedule, device: torch.device) -> Loader:
    """The loader that the configuration asks for.

    Raises:
        UserError: the GPU is asked to augment and cannot.
    """
    augment = Augment(
        config.crop_size,
        config.min_scale,
        config.max_scale,
        config.ignore_label,
        config.interpolation == "bicubic",
        config.photometric,
    )
    options = LoaderOptions(
        device,
        config.num_workers,
        config.augment_on,
        Finish(config.mean_rgb, config.std_rgb, DTYPES[config.precision]),
        BadSamples(config.on_bad_sample == "skip", config.max_bad_samples),
    )
    dataset = TrainingSet(source, augment, config.num_classes, config.seed, Decoding.of(config))
    return open_loader(dataset, schedule, options)


def _take(batches: Iterator[Batch], count: int) -> tuple[list[Batch], UserError | None]:
    """Take the next ``count`` batches, or return why one of them cannot be made."""
    try:
        return list(islice(batches, count)), None
    except UserError as error:
        return [], error


class _Timed:
    """Iterates and adds up the seconds spent waiting for items."""

    def __init__(self, items: Iterator[Batch]) -> None:
        self.items, self.seconds = items, 0.0

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        start = time.perf_counter()
        try:
            return next(self.items)
        finally:
            self.seconds += time.perf_counter() - start


def _stays(state: TrainState) -> bool:
    """Tell whether the state at this step becomes a numbered checkpoint."""
    return state.step % state.config.save_steps == 0 or state.step == state.total_steps


def _evaluation_due(state: TrainState) -> bool:
    if not state.config.eval_epochs or state.step == 0 or state.evaluated == state.step:
        return False
    every = state.config.eval_epochs * state.steps_per_epoch
    return state.step % every == 0 or state.step == state.total_steps


def _evaluate(
    state: TrainState, source: Source, checkpoints: CheckpointFolder, log: RunLog | None, stop: StopRequest
) -> None:
    config = state.config
    state.world.share_buffers(state.evaluation_model)
    scores = evaluate(
        state.evaluation_model,
        source,
        Protocol.of(config, config.precision),
        config.num_classes,
        config.ignore_label,
        state.device,
        config.batch_size,
        config.num_workers,
        state.world,
        config.fused,
        config.on_bad_sample == "skip",
    )
    best = checkpoints.folder / BEST
    better = scores.miou > state.best_miou  # never where there is no mIoU: it is NaN then
    with state.world.alike(), stop.deferred():
        if log is not None:
            log.evaluation({"step": state.step, "epoch": state.epoch, **scores.as_record()})
            if not better and not best.exists() and not math.isnan(scores.miou):
                logger.warning("%s is gone: it now holds the weights of this evaluation", best)
                better = True
            if better:
                content = {
                    "format": WEIGHTS_FORMAT,
                    "model": state.evaluation_model.state_dict(),
                    "step": state.step,
                    "epoch": state.epoch,
                    "miou": scores.miou,
                    "config": asdict(config),
                    "versions": versions(),
                }
                save_atomically(content, best)
    state.evaluated = state.step
    if better:
        state.best_miou = scores.miou
