"""A training step of each implementation, with the same weights, images and labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deeplab_fast.config import TrainConfig
from deeplab_fast.config.flags import flag
from deeplab_fast.config.shared import Device, Fused, Model
from deeplab_fast.data.dataset import Batch
from deeplab_fast.data.schedule import Schedule
from deeplab_fast.distributed import World
from deeplab_fast.errors import UserError
from deeplab_fast.model import build_model
from deeplab_fast.runtime import autocast, to_channels_last
from deeplab_fast.training.state import build_state
from deeplab_fast.training.step import choose_step

from ..agreement import Truth, gradients_of
from ..peers import Torchvision
from ..timing import GraphedCallable


@dataclass(frozen=True)
class Kind:
    """Says what an implementation is: whose network, compiled by which mode of torch.compile (None: eager), recomputing
    activations or not, and whether the whole step is a CUDA graph. Ours is one wherever there is a GPU.
    """

    is_ours: bool
    compiled: str | None = None
    recomputes: bool = False
    is_graphed: bool = False


OURS, OURS_COMPILED, OURS_RECOMPUTED = "ours", "ours-compile", "ours-recompute"
EAGER, COMPILED, AUTOTUNED = "torchvision-eager", "torchvision-compile", "torchvision-max-autotune"
EAGER_GRAPHED, COMPILED_GRAPHED = "torchvision-eager-graph", "torchvision-compile-graph"
KINDS = {
    OURS: Kind(is_ours=True),
    OURS_COMPILED: Kind(is_ours=True, compiled="default"),
    OURS_RECOMPUTED: Kind(is_ours=True, recomputes=True),
    EAGER: Kind(is_ours=False),
    EAGER_GRAPHED: Kind(is_ours=False, is_graphed=True),
    COMPILED: Kind(is_ours=False, compiled="default"),
    COMPILED_GRAPHED: Kind(is_ours=False, compiled="default", is_graphed=True),
    AUTOTUNED: Kind(is_ours=False, compiled="max-autotune"),
}
NAMES = tuple(KINDS)
IGNORE = 255
_LR, _MOMENTUM, _DECAY = 1e-4, 0.9, 1e-4


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """Step"""

    model: Model = flag("deeplab_v3_s16", "Output stride 16 or 8.")
    backbone: Literal["resnet50", "resnet101"] = flag("resnet101", "ResNet depth.")
    batch_size: int = flag(2, "Images a step.", minimum=2)
    crop_size: int = flag(257, "Side of the images.", minimum=33)
    num_classes: int = flag(21, "Classes.", minimum=2, maximum=255)
    device_target: Device = flag("auto", "Device.")
    fused: Fused = flag("auto", "Our fused kernels.")
    rounds: int = flag(15, "Timed steps of each implementation.", minimum=4)


@dataclass
class Implementation:
    """``loss`` runs forward and backward, leaving gradients; ``step`` updates too. Both return the loss.

    ``network`` holds the parameters; ``runs`` is it is called, compiled or not. ``training`` configures ours,
    ``graphed`` is a peer's step where that is a CUDA graph.
    """

    name: str
    network: nn.Module
    runs: nn.Module
    loss: Callable[[], Tensor]
    step: Callable[[], Tensor]
    training: TrainConfig | None = None
    graphed: GraphedCallable | None = None

    def gradient(self) -> tuple[float, dict[str, Tensor]]:
        """Return the loss, and the gradients by name, fp64."""
        self.network.zero_grad(set_to_none=True)
        loss = self.loss().item()
        gradients = gradients_of(self.network)
        self.network.zero_grad(set_to_none=True)
        return loss, gradients


@dataclass
class Data:
    """``images`` fp32 ``[N, 3, S, S]`` in channels-last storage, ``labels`` uint8 ``[N, S, S]``."""

    images: Tensor
    labels: Tensor

    @classmethod
    def random(cls, config: StepConfig, device: torch.device, seed: int = 0) -> "Data":
        """Squares of a class, each class a colour under noise: of labels without any order the gradient is the small
        rest of much that cancels, which rounding drowns. And zeros would run faster than data does.
        """
        generator = torch.Generator().manual_seed(seed)
        n, side, square = config.batch_size, config.crop_size, max(config.crop_size // 4, 8)
        squares = torch.randint(0, config.num_classes, (n, *[-(-side // square)] * 2), generator=generator)
        labels = squares.repeat_interleave(square, 1).repeat_interleave(square, 2)[:, :side, :side]
        colours = 2 * torch.randn(config.num_classes, 3, generator=generator)
        images = torch.randn(n, 3, side, side, generator=generator) + colours[labels].permute(0, 3, 1, 2)
        labels = labels.to(torch.uint8)
        labels[torch.rand(labels.shape, generator=generator) < 0.05] = IGNORE
        return cls(images.to(device).to(memory_format=torch.channels_last), labels.to(device))


def some_of(allowed: Sequence[str], name: str, value: str) -> list[str]:
    """The parts of flag ``name``'s ``value``. Raises :class:`UserError` for one that is not allowed."""
    found = value.split(",")
    if not set(found) <= set(allowed):
        raise UserError(f"--{name}={value}: expected some of {', '.join(allowed)}, commas between")
    return found


def build(
    name: str, weights: dict[str, Any], config: StepConfig, precision: str, device: torch.device, data: Data
) -> Implementation:
    """Build one of ``NAMES`` that has not run yet, with ``weights`` (:func:`first_weights`) and without dropout.

    Raises:
        UserError: it needs a GPU, and ``device`` is none.
    """
    return (_ours if KINDS[name].is_ours else _torchvision)(name, weights, config, precision, device, data)


def first_weights(config: StepConfig) -> dict[str, Any]:
    """Random, with residual branches that start small as trained networks' are: at full size a rounding grows through a
    hundred layers until bf16's gradients have nothing in common with the exact ones.
    """
    torch.manual_seed(0)
    state = Torchvision(config.backbone, config.num_classes, config.model).state_dict()
    return {k: 0.1 * v if k.endswith("bn3.weight") else v for k, v in state.items()}


def _ours(
    name: str, weights: dict[str, Any], config: StepConfig, precision: str, device: torch.device, data: Data
) -> Implementation:
    """The trainer's own step: schedule, loss, bookkeeping and all."""
    fixed: dict[str, Any] = {"head": "torchvision", "dropout": 0.0, "max_steps": 10**6, "weight_decay": _DECAY}
    fixed["decay_norm"] = True  # as the peers: the same work
    given = {k: getattr(config, k) for k in ("model", "backbone", "num_classes", "batch_size", "crop_size", "fused")}
    fixed["precision"] = precision
    if KINDS[name].compiled is None:
        fixed["speed"] = "auto"
    else:
        fixed["speed"] = "compile+graph" if device.type == "cuda" else "compile"
    fixed["recompute_activations"] = KINDS[name].recomputes
    train = TrainConfig(**fixed, **given, base_lr=_LR, momentum=_MOMENTUM)
    model = build_model(train)
    model.load_state_dict(weights)
    state = build_state(train, model, device, World(), Schedule(config.batch_size, config.batch_size, 1))
    state.network.train()
    extents = torch.zeros(config.batch_size, 4, dtype=torch.int32, device=device)
    batch = Batch(data.images.permute(0, 2, 3, 1), data.labels, extents, [])
    step, _ = choose_step(state)

    def loss() -> Tensor:
        with autocast(precision, device):
            logits = state.network(data.images)
        share = state.criterion.share(logits, data.labels, state.criterion.normaliser(data.labels))
        share.backward()
        return share.detach()

    return Implementation(name, model, state.network, loss, lambda: step([batch]), train)


def _torchvision(
    name: str, weights: dict[str, Any], config: StepConfig, precision: str, device: torch.device, data: Data
) -> Implementation:
    """As its users would train it fast: channels-last, autocast, torch's fused SGD, a GradScaler in fp16, and cuDNN's
    algorithms chosen by timing them, which our own step, to be repeatable, does without; and, where its name says so,
    the whole step in a CUDA graph, as ours is.
    """
    model = Torchvision(config.backbone, config.num_classes, config.model)
    model.load_state_dict(weights)
    model = without_dropout(to_channels_last(model, device).train())
    network: Any = model
    mode = KINDS[name].compiled
    if mode is not None:
        network = torch.compile(model, mode=mode)
    optimiser = torch.optim.SGD(model.parameters(), lr=_LR, momentum=_MOMENTUM, weight_decay=_DECAY, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    labels = data.labels.long()  # its loss wants int64: converted outside the timing, in its favour

    def forward() -> Tensor:
        with autocast(precision, device):
            logits = network(data.images)
        return F.cross_entropy(logits.float(), labels, ignore_index=IGNORE)

    def loss() -> Tensor:
        found = forward()
        found.backward()
        return found.detach()

    def step() -> Tensor:
        found = forward()
        scaler.scale(found).backward()
        scaler.step(optimiser)
        scaler.update()
        optimiser.zero_grad(set_to_none=True)
        return found.detach()

    graphed = GraphedCallable(step, device) if KINDS[name].is_graphed else None
    return Implementation(name, model, network, loss, _by_fastest_algorithms(graphed or step), graphed=graphed)


def _by_fastest_algorithms(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    def timed() -> Tensor:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=False):
            return run()

    return timed


def truth(weights: dict[str, Any], config: StepConfig, dtype: torch.dtype, device: torch.device, data: Data) -> Truth:
    """Return loss and gradients of torchvision's network, eager, without autocast, in ``dtype``, which is to be far
    more precise than what is compared with it.
    """
    model = Torchvision(config.backbone, config.num_classes, config.model)
    model.load_state_dict(weights)
    model = without_dropout(to_channels_last(model, device).to(dtype).train())
    logits = model(data.images.to(dtype))
    loss = F.cross_entropy(logits, data.labels.long(), ignore_index=IGNORE)
    loss.backward()
    return Truth(loss.item(), gradients_of(model))


def without_dropout(model: Torchvision) -> Torchvision:
    """So that losses can be compared."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model
