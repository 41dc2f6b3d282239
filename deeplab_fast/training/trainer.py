"""The training loop: what happens between steps."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from ..config import TrainConfig
from ..config.urls import public_fields
from ..data.augment import Augment
from ..data.dataset import BadSamples, Batch, TrainingSet
from ..data.loader import Loader, LoaderOptions, open_loader
from ..data.native_loader import GpuAugment
from ..data.schedule import Schedule
from ..data.sources import Source
from ..distributed import World
from ..errors import OutOfMemory, TrainingDiverged, UserError, enough_memory
from ..evaluation.evaluator import evaluate
from ..evaluation.metrics import Scores
from ..evaluation.protocols import recipe_of
from ..evaluation.record import protocol_record
from ..evaluation.settings import Settings
from ..ops import Decoding
from ..report.strip import spread, strip_of
from ..report.training_page import keep_scores
from ..runtime import DTYPES, versions
from ..signals import StopRequest
from ..storage.checkpoint import BEST, WEIGHTS_FORMAT, CheckpointFolder, save_atomically
from ..storage.log import RunLog
from .loss_log import Divergence, LossBlock
from .profiling import ProfiledStep
from .state import TrainState
from .step import Step, choose_step
from .subject import names_of, subject_of

logger = logging.getLogger("deeplab_fast")

_ADVICE = "a smaller --batch_size (--accumulate_steps keeps the images of a step) or --crop_size"
_STANDS = "; what was saved stands: give the same command again to continue"


class Trainer:
    """The loop over a run's steps, and what is due between them.

    Every evaluation, checkpoint and log line belongs to a step, and a checkpoint holds all before it, so a run
    continues as if never interrupted. ``log`` is None on all but the main process.
    """

    def __init__(self, state: TrainState, checkpoints: CheckpointFolder, log: RunLog | None, stop: StopRequest) -> None:
        self.state, self.checkpoints, self.log, self.stop = state, checkpoints, log, stop
        self.losses = LossBlock(state)
        self.saved_at, self.saved_step = time.monotonic(), state.step

    def run(self, source: Source, schedule: Schedule, held_out: Source | None) -> None:
        """Train from ``state.step`` to the end or until a stop is asked for.

        Raises:
            UserError: a sample cannot be used.
            TrainingDiverged: a loss, its gradients or a weight is NaN or infinite.
        """
        state, config = self.state, self.state.config
        step, batches = self._open(source, schedule)
        state.network.train()
        if held_out is not None and _evaluation_due(state):
            self._evaluate(held_out)
            self._save()
        self.losses.restart_clock()
        while state.step < state.total_steps:
            group = self._take(batches)
            if not group:  # a stop was asked for while samples were waited for
                if state.step != self.saved_step:
                    self._save()
                return
            self.losses.add(self._do(step, group), [key for batch in group for key in batch.keys])
            boundary = state.step % config.log_steps == 0 or state.step == state.total_steps
            if boundary:
                self._flush()
            stopping, long_ago = self._asked(boundary)
            if stopping:
                self._save()
                return
            due = held_out is not None and _evaluation_due(state)
            if held_out is not None and due:
                self._evaluate(held_out)
            if due or long_ago or _stays(state):
                self._save()

    def _open(self, source: Source, schedule: Schedule) -> tuple[Step, Iterator[Batch]]:
        """Build the loader and the step, and say how both work."""
        state, config = self.state, self.state.config
        with state.world.together():
            loader = build_loader(config, source, schedule, state.device)
            step, plan = choose_step(state)
        if self.log is not None:
            self.log.say(f"data: {loader.plan}")
            self.log.say(f"speed: {config.precision} ({state.precision_reason}), {plan}")
            if config.profile:
                step = ProfiledStep(step, state, self.checkpoints.folder, self.log.say)
        first, last = (n * config.accumulate_steps for n in (state.step, state.total_steps))
        return step, loader.batches(first, last)

    def _take(self, batches: Iterator[Batch]) -> list[Batch]:
        """Take the batches of a step: none where a stop was asked for while a process waited for samples.

        Where one cannot have its own for another reason, all save the steps done and end.
        """
        start, error = time.perf_counter(), None
        group: list[Batch] = []
        try:
            with enough_memory("loading samples", f"a smaller --num_workers, {_ADVICE}"):
                group = list(islice(batches, self.state.config.accumulate_steps))
        except UserError as caught:
            found_by = "" if isinstance(caught, OutOfMemory) else "; 'prepare check' finds all such files"
            error = UserError(f"{caught}{found_by}")  # without the frames, and what they hold
        except Exception:
            self._save_alone()
            raise
        waited = time.perf_counter() - start
        error = self.state.world.first_error(error)  # before the step, whose exchanges all come to, or none
        if error is not None:
            if self.state.world.any(self.stop.signal is not None):
                return []
            self._save_and_end(error)
        self.losses.data_s += waited
        return group

    def _do(self, step: Step, group: list[Batch]) -> Tensor:
        """Do a step; one that fails is taken back, and the steps done are saved."""
        what, error = f"step {self.state.step + 1}, {self._size()}", None
        try:
            with enough_memory(what, _ADVICE):
                return step(group)
        except UserError as caught:
            error = UserError(f"{caught}{_STANDS if self.state.world.size > 1 else ''}")  # without the frames
        except Exception:
            self._save_alone()
            raise
        self._save_alone()
        raise error

    def _size(self) -> str:
        c = self.state.config
        return f"{c.batch_size} images of {c.crop_size} x {c.crop_size}"

    def _save_alone(self) -> None:
        """Save the steps done after an error of this process, where it is the only one: others wait elsewhere."""
        state = self.state
        if state.world.size > 1 or state.step == self.saved_step:
            return
        if state.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            if state.before.undo(state):
                self._save()
                return
        except Exception as error:  # the device, or memory: the first error is the one to tell
            logger.debug("not saved", exc_info=error)
        logger.warning("the steps after %d could not be saved and are done again", self.saved_step)

    def _asked(self, boundary: bool) -> tuple[bool, bool]:
        """Tell whether the run is to stop, and whether the last checkpoint is long ago, the same on all processes."""
        state = self.state
        if not boundary and state.world.size > 1:  # they agree where they meet anyway
            return False, False
        stopping = state.world.any(self.stop.signal is not None) and state.step < state.total_steps
        return stopping, state.world.any(time.monotonic() - self.saved_at >= 60 * state.config.save_minutes)

    def _flush(self) -> None:
        records, timing = self.losses.fetch()
        if self.log is not None:
            self.log.steps(records, timing)
        if self.losses.divergence is not None:
            self._end_diverged(self.losses.divergence)

    def _end_diverged(self, found: Divergence) -> NoReturn:
        """Go back to the last good step, whose state is there still, save it beside all others, and end."""
        state = self.state
        state.go_back(found.last_good, found.rng)
        if state.step > self.saved_step and state.is_finite():
            self._write(self.checkpoints.add)
        raise_diverged(state.world, found.reason)

    def _settle(self) -> None:
        """Wait for the steps done, and find out whether they left what is worth keeping.

        Raises:
            TrainingDiverged: a weight is no number, though no loss has shown it yet.
        """
        self._flush()
        if not self.state.is_finite():
            raise_diverged(
                self.state.world, f"step {self.state.step}: its update made weights infinite, or larger than 1e19"
            )

    def _save(self) -> None:
        self._settle()
        state = self.state
        self._write(self.checkpoints.save if _stays(state) else self.checkpoints.save_last)
        self.losses.restart_clock()

    def _write(self, write: Callable[[dict[str, Any], int], Path]) -> None:
        state = self.state
        with state.world.together(), self.stop.deferred():
            if self.log is not None:
                self.log.sync()
                self.log.say(f"saved {write(state.state_dict(), state.step_in_epoch)}, step {state.step}")
        self.saved_at, self.saved_step = time.monotonic(), state.step

    def _save_and_end(self, error: UserError) -> NoReturn:
        """Save the steps done, then end with an error that every process has."""
        if self.state.device.type == "cuda":
            torch.cuda.empty_cache()
        if self.state.step != self.saved_step:
            self._save()
        self.state.world.end_alike(error)

    def _evaluate(self, held_out: Source) -> None:
        self._settle()
        state, error = self.state, None
        try:
            scores = self._scores(held_out)
            better = scores.miou > state.best_miou  # never where there is no mIoU: it is NaN then
            with state.world.alike(), self.stop.deferred(), enough_memory("evaluation", _ADVICE):
                if self.log is not None:
                    better = self._keep(scores, better, self.log)
                    self._show(held_out, self.log)
        except UserError as caught:
            error = UserError(str(caught))  # without the frames, and what they hold
        except Exception:
            self._save_alone()
            raise
        if error is not None:
            self._save_and_end(error)
        state.evaluated = state.step
        if better:
            state.best_miou = scores.miou

    def _scores(self, held_out: Source) -> Scores:
        state, config = self.state, self.state.config
        state.world.share_buffers(state.evaluation_model)
        at_end = state.step == state.total_steps  # the report shows the worst and best images of it
        settings = Settings.of(config, state.device, state.world, per_image=at_end)
        return evaluate(state.evaluation_model, held_out, recipe_of(config), settings)

    def _keep(self, scores: Scores, better: bool, log: RunLog) -> bool:
        """Log the scores, keep the weights where they are the best there are, and return whether they are."""
        state, best = self.state, self.checkpoints.folder / BEST
        log.evaluation({"step": state.step, "epoch": state.epoch, **scores.as_record()})
        self._keep_scores(scores)
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
                "config": public_fields(state.config),
                "versions": versions(),
                **state.named(),
            }
            save_atomically(content, best)
        return better

    def _show(self, held_out: Source, log: RunLog) -> None:
        """Give the trackers a picture of a few held-out samples, the same ones after each evaluation."""
        subject, indexes = subject_of(self.state, held_out), spread(len(held_out))
        log.trackers.image("val/samples", lambda: strip_of(subject, indexes), self.state.step)

    def _keep_scores(self, scores: Scores) -> None:
        state, config = self.state, self.state.config
        protocol = protocol_record(recipe_of(config), config.ignore_label)
        keep_scores(self.checkpoints.folder, scores, names_of(state), protocol, config.precision, state.step)


def raise_diverged(world: World, reason: str) -> NoReturn:
    """Raise what ends all processes alike; the main one says why.

    Raises:
        TrainingDiverged: on the main process.
        SystemExit: on the others.
    """
    if not world.is_main:
        raise SystemExit(1)
    raise TrainingDiverged(
        f"{reason}. A lower --base_lr, --warmup_steps or --clip_grad_norm may help: the same command with one continues"
        " before that step, or from further back once the newest checkpoint is removed"
    )


def build_loader(config: TrainConfig, source: Source, schedule: Schedule, device: torch.device) -> Loader:
    """Open the loader that the configuration asks for.

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
        GpuAugment(config.mean_rgb, config.std_rgb, DTYPES[config.precision]),
        BadSamples(config.on_bad_sample == "skip", config.max_bad_samples),
    )
    dataset = TrainingSet(source, augment, config.num_classes, config.seed, Decoding.of(config))
    return open_loader(dataset, schedule, options)


def _stays(state: TrainState) -> bool:
    """Tell whether the state at this step becomes a numbered checkpoint."""
    return state.step % state.config.save_steps == 0 or state.step == state.total_steps


def _evaluation_due(state: TrainState) -> bool:
    if not state.config.eval_epochs or state.step == 0 or state.evaluated == state.step:
        return False
    every = state.config.eval_epochs * state.steps_per_epoch
    return state.step % every == 0 or state.step == state.total_steps
