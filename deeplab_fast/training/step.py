"""One update of the weights: its arithmetic, and how it runs, as it is called or replayed from a CUDA graph."""

import logging
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..config import TrainConfig
from ..data.dataset import Batch
from ..errors import UserError
from ..ops import normalise
from ..runtime import autocast, rng_state
from .optim import learning_rate
from .state import TrainState

logger = logging.getLogger("deeplab_fast")

Step = Callable[[Sequence[Batch]], Tensor]

# Steps before one is recorded: kernels are compiled and memory is found then. DistributedDataParallel settles its
# buckets and its own timing in its first eleven (torch's notes on CUDA graphs).
_WARM_UP, _WARM_UP_PROCESSES = 3, 11


def train_step(state: TrainState, batches: Sequence[Batch]) -> Tensor:
    """Do one update from ``accumulate_steps`` batches; return the loss's share of this process, scalar (0-d).

    The loss is the mean over the labelled pixels of all batches and processes: the divisor is known
    from the labels before the first forward pass. Does not wait for the device.
    """
    state.before.note(state)
    state.optimiser.set_rate(learning_rate(state.config, state.step, state.total_steps))
    loss = update(state, [batch.to(state.device) for batch in batches])
    state.before.close()
    state.step += 1
    return loss


def update(state: TrainState, batches: Sequence[Batch]) -> Tensor:
    """Do what the device does in a step (loss: scalar): nothing here depends on a value that it holds.

    A step whose loss or gradients are no numbers changes nothing, nor does any after it (:class:`.guard.Guard`).
    """
    config, world = state.config, state.world
    state.before.keep(state.guard)
    divisor = world.sum(torch.stack([state.criterion.normaliser(batch.labels) for batch in batches]).sum())
    loss = torch.zeros((), device=state.device)
    for i, batch in enumerate(batches):
        last = i + 1 == len(batches)
        if isinstance(state.network, DistributedDataParallel):
            state.network.require_backward_grad_sync = last
        x = network_input(batch, config)
        with autocast(config.precision, state.device):
            logits = state.network(x)
        share = state.criterion.share(logits, batch.labels, divisor)
        state.scaler.scale(share * world.size).backward()  # the processes' gradients are averaged
        loss += share.detach()
    state.guard.judge(loss, _gradient_norm(state))
    state.scaler.step(state.optimiser)
    state.scaler.update()
    state.guard.restore()
    if state.copies is not None:
        state.copies.refresh()
    state.optimiser.zero_grad(set_to_none=True)
    if state.average is not None:
        state.average.update(state.model, first=state.step == 0, skip=state.guard.halted)
    return loss


def _gradient_norm(state: TrainState) -> Tensor | None:
    """Clip the gradients where that is asked for; return their norm (scalar), None in fp16: it may overflow there."""
    clip = state.config.clip_grad_norm
    if state.scaler.is_enabled() and not clip:
        return None
    state.scaler.unscale_(state.optimiser)
    parameters = [p for p in state.model.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm([cast(Tensor, p.grad) for p in parameters])
    if clip:
        nn.utils.clip_grads_with_norm_(parameters, clip, norm)
    return None if state.scaler.is_enabled() else norm


def network_input(batch: Batch, config: TrainConfig) -> Tensor:
    """Return ``[N, 3, S, S]`` in channels-last storage, normalised here unless the loader did it on the GPU."""
    if batch.images.dtype == torch.uint8:
        return normalise(batch.images, batch.extents, config.mean_rgb, config.std_rgb, torch.float32)
    return batch.images.permute(0, 3, 1, 2)


class GraphedStep:
    """:func:`train_step` that records its fourth call (of several processes the twelfth) as a CUDA graph and replays it
    from then on.

    The steps before are ordinary ones; so a run that continues has the same bits as one that was not interrupted.
    Batches are copied to where the graph reads them, on the device; the learning rate is a tensor that it reads.
    """

    def __init__(self, state: TrainState, must: bool) -> None:
        self.state, self.must = state, must
        self.warm_up = _WARM_UP if state.world.size == 1 else _WARM_UP_PROCESSES
        self.calls = 0
        self.side: torch.cuda.Stream | None = None
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: list[Batch] = []
        self.loss = torch.zeros(())
        self.failed = False

    def __call__(self, batches: Sequence[Batch]) -> Tensor:
        state = self.state
        self.calls += 1
        if self.failed:
            return train_step(state, batches)
        if self.calls <= self.warm_up:
            return self._beside(batches)
        if self.graph is None and not self._record(batches):
            return train_step(state, batches)
        assert self.graph is not None
        for target, batch in zip(self.inputs, batches, strict=True):
            for there, value in zip(target[:3], batch[:3], strict=True):
                there.copy_(value, non_blocking=True)
        state.before.rng = rng_state(state.device)
        loss = torch.empty_like(self.loss)  # before the weights change: nothing after that needs memory
        state.optimiser.set_rate(learning_rate(state.config, state.step, state.total_steps))
        self.graph.replay()
        state.step += 1
        return loss.copy_(self.loss)

    def _beside(self, batches: Sequence[Batch]) -> Tensor:
        """Do an ordinary step, on a stream of its own as recording wants it: one, whose memory all of them use."""
        here = torch.cuda.current_stream()
        if self.side is None:
            self.side = torch.cuda.Stream()
        self.side.wait_stream(here)
        with torch.cuda.stream(self.side):
            loss = train_step(self.state, batches)
        here.wait_stream(self.side)
        return loss

    def _record(self, batches: Sequence[Batch]) -> bool:
        """Record the step, and tell whether that could be done; nothing is computed, so no step is lost.

        Raises:
            UserError: it could not, and was asked for.
        """
        here = [batch.to(self.state.device) for batch in batches]
        self.inputs = [Batch(b.images.clone(), b.labels.clone(), b.extents.clone(), b.keys) for b in here]
        state, graph = self.state, torch.cuda.CUDAGraph()
        before = torch.cuda.current_stream() if torch.cuda.is_available() else None
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # the loader's threads go on meanwhile
                self.loss = update(state, self.inputs)
        except RuntimeError as error:
            first = error.__context__ or error  # ending a capture that failed fails again
            reason = (str(first) or type(first).__name__).splitlines()[0]
            # torch then leaves the stream of the capture in place, and its allocator as if the capture went on.
            is_broken = before is not None and torch.cuda.current_stream() != before
            if self.must or is_broken:
                raise UserError(
                    f"--speed={state.config.speed}: the step cannot be recorded: {reason}; expected --speed=eager"
                ) from error
            logger.warning("speed: goes on eagerly, the step could not be recorded: %s", reason)
            state.optimiser.zero_grad(set_to_none=True)  # of a backward pass that never ran
            if state.scaler.is_enabled():
                state.scaler.update(state.scaler.get_scale())  # forgets the step that it was told of
            self.failed, self.inputs = True, []
            return False
        self.graph = graph
        return True


def choose_step(state: TrainState) -> tuple[Step, str]:
    """Return the step that ``--speed`` names, and what it is in words.

    Raises:
        UserError: it cannot be had here; says why.
    """
    speed = state.config.speed
    compiled = "the network compiled, " if "compile" in speed else ""
    reason = _no_graph(state)
    wanted = "graph" in speed
    if wanted and reason:
        raise UserError(f"--speed={speed}: {reason}; expected auto, eager or compile")
    if reason is None and (wanted or speed == "auto"):
        step = GraphedStep(state, wanted)
        return step, f"{compiled}the whole step a CUDA graph, after {step.warm_up} others"
    why = f" ({reason})" if speed == "auto" else ""
    return lambda batches: train_step(state, batches), f"{compiled}eager{why}"


def _no_graph(state: TrainState) -> str | None:
    """Return why no CUDA graph of the step can be recorded, or None."""
    if state.device.type != "cuda":
        return "a CUDA graph needs a GPU"
    if state.world.size > 1 and "graph" not in state.config.speed:
        return "several processes: their exchange is recorded too where --speed=graph asks for it"
    return None
