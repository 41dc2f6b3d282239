"""A training step of each implementation, with the same weights, images and labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deeplab_fast.config import MODELS, TrainConfig, flag
from deeplab_fast.data.dataset import Batch
from deeplab_fast.data.schedule import Schedule
from deeplab_fast.distributed import World
from deeplab_fast.errors import UserError
from deeplab_fast.model import build_model
from deeplab_fast.runtime import DTYPES, autocast, place
from deeplab_fast.state import build_state
from deeplab_fast.step import choose_step

from .peers import Torchvision

OURS, OURS_COMPILED, OURS_RECOMPUTED = "ours", "ours-compile", "ours-recompute"
EAGER, COMPILED, AUTOTUNED = "torchvision-eager", "torchvision-compile", "torchvision-max-autotune"
NAMES = (OURS, OURS_COMPILED, OURS_RECOMPUTED, EAGER, COMPILED, AUTOTUNED)
IGNORE = 255
_LR, _MOMENTUM, _DECAY = 1e-4, 0.9, 1e-4


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """Step"""

    model: str = flag("deeplab_v3_s16", "Output stride 16 or 8.", choices=MODELS)
    backbone: str = flag("resnet101", "ResNet depth.", choices=("resnet50", "resnet101"))
    batch_size: int = flag(2, "Images a step.", minimum=2)
    crop_size: int = flag(257, "Side of the images.", minimum=33)
    num_classes: int = flag(21, "Classes.", minimum=2, maximum=255)
    device_target: str = flag("auto", "Device.", choices=("auto", "GPU", "CPU"))
    fused: str = flag("auto", "Our fused kernels.", choices=("auto", "on", "off"))


@dataclass
class Implementation:
    """``loss`` runs forward and backward, leaving gradients; ``step`` updates too. Both return the loss."""

    name: str
    network: nn.Module
    loss: Callable[[], Tensor]
    step: Callable[[], Tensor]

    def gradient(self) -> tuple[float, Tensor]:
        """The loss, and all gradients in the order of their names, fp64."""
        self.network.zero_grad(set_to_none=True)
        loss = self.loss().item()
        named = sorted(self.network.named_parameters())
        flat = torch.cat([p.grad.flatten().double() for _, p in named if p.grad is not None])
        self.network.zero_grad(set_to_none=True)
        return loss, flat


@dataclass
class Data:
    """``images`` fp32 ``[N, 3, S, S]`` in channels-last storage, ``labels`` uint8 ``[N, S, S]``."""

    images: Tensor
    labels: Tensor

    @classmethod
    def random(cls, config: StepConfig, device: torch.device) -> "Data":
        """Squares of a class, each class a colour under noise: of labels without any order the gradient is the small
        rest of much that cancels, which rounding drowns. And zeros would run faster than data does.
        """
        generator = torch.Generator().manual_seed(0)
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
    """One that has not run yet, with ``weights`` (:func:`first_weights`) and without dropout."""
    return (_ours if name in (OURS, OURS_COMPILED) else _torchvision)(name, weights, config, precision, device, data)


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
    given = {k: getattr(config, k) for k in ("model", "backbone", "num_classes", "batch_size", "crop_size", "fused")}
    speed = "auto" if name != OURS_COMPILED else ("compile+graph" if device.type == "cuda" else "compile")
    fixed["recompute_activations"] = name == OURS_RECOMPUTED
    train = TrainConfig(**fixed, **given, precision=precision, base_lr=_LR, momentum=_MOMENTUM, speed=speed)
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

    return Implementation(name, model, loss, lambda: step([batch]))


def _torchvision(
    name: str, weights: dict[str, Any], config: StepConfig, precision: str, device: torch.device, data: Data
) -> Implementation:
    """As its users would train it fast: channels-last, autocast, torch's fused SGD, a GradScaler in fp16, and cuDNN's
    algorithms chosen by timing them, which our own step, to be repeatable, does without.
    """
    model = Torchvision(config.backbone, config.num_classes, config.model)
    model.load_state_dict(weights)
    model = without_dropout(place(model, device).train())
    network: Any = model
    if name != EAGER:
        network = torch.compile(model, mode="max-autotune" if name == AUTOTUNED else None)
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

    return Implementation(name, model, loss, _by_fastest_algorithms(step))


def _by_fastest_algorithms(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    def timed() -> Tensor:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=False):
            return run()

    return timed


class Truth(NamedTuple):
    """Loss and gradient of torchvision's network, eager, without autocast."""

    loss: float
    gradient: Tensor

    def errors(self, loss: float, gradient: Tensor) -> dict[str, float]:
        """Relative, of the loss and of all gradients together."""
        difference = float((gradient - self.gradient).norm() / self.gradient.norm())
        return {"loss": abs(loss - self.loss) / abs(self.loss), "gradient": difference}


def truth(weights: dict[str, Any], config: StepConfig, dtype: torch.dtype, device: torch.device, data: Data) -> Truth:
    """In ``dtype``, which is to be far more precise than what is compared with it."""
    model = Torchvision(config.backbone, config.num_classes, config.model)
    model.load_state_dict(weights)
    model = without_dropout(place(model, device).to(dtype).train())
    logits = model(data.images.to(dtype))
    loss = F.cross_entropy(logits, data.labels.long(), ignore_index=IGNORE)
    loss.backward()
    named = sorted(model.named_parameters())
    return Truth(loss.item(), torch.cat([p.grad.flatten().double() for _, p in named if p.grad is not None]))


def without_dropout(model: Torchvision) -> Torchvision:
    """So that losses can be compared."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def disagreement(errors: dict[str, float], plain: dict[str, float], precision: str) -> str | None:
    """What is wrong, where ``errors`` are more than twice ``plain``, which are torchvision's eager network's in that
    precision, and more than rounding; or None.

    Of the loss, a single number whose error may be anything below its usual size, rounding is an eighth of the
    precision's ``eps``, in fp32 1e-5; of the gradient 1e-5. A gradient of zeros (off by 1) never passes.
    """
    rounding = {"fp32": 1e-5}.get(precision, torch.finfo(DTYPES[precision]).eps / 8)
    limits = {"loss": max(2 * plain["loss"], rounding), "gradient": min(max(2 * plain["gradient"], 1e-5), 0.9)}
    for what, limit in limits.items():
        if not errors[what] <= limit:
            return f"error of the {what} is {errors[what]:.1e}; expected at most {limit:.1e}"
    return None
